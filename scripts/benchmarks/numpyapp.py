"""An app whose import costs time and memory: it imports NumPy."""

from __future__ import annotations

import os

# Else OpenBLAS starts threads at the import. They would not survive a fork, so workers would not be forked with the app.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy  # noqa: F401 - its import is what is measured
from app import engine_on

engine = engine_on("bench.db")
