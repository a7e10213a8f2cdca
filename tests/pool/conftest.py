"""Fixtures of the pool's tests: a rig, and a look at what is left when a test is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.probes import open_descriptors, until, zombies
from tests.pool.rig import Rig


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Neither a descriptor nor a zombie is left behind."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before
    until(lambda: not zombies(), what="no zombies")


@pytest.fixture
def rig(tmp_path: Path, no_leaks: None) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.open()
    yield made
    made.close()
