"""A folder per test, emptied of processes whatever happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.whole.harness import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def small_disk(place: Place) -> Iterator[Path]:
    """A disk of 3 MiB at `disk` in the place's folder."""
    folder = place.folder / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "none", folder], capture_output=True, check=False
    )
    if sys.platform != "linux" or made.returncode != 0:
        pytest.skip("no leave to mount")
    try:
        yield folder
    finally:
        place.close()
        subprocess.run(["umount", "-l", folder], check=True)
