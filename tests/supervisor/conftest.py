"""Fixtures of the supervisor's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pool.probes import open_descriptors, until, zombies
from tests.supervisor.house import House

Build = Callable[..., House]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Makes houses over the one store of this test; what they leave open or unreaped is a failure."""
    before = open_descriptors()
    made: list[House] = []

    def build(**options: Any) -> House:
        made.append(House(tmp_path, **options))
        return made[-1]

    yield build
    for house in made:
        house.close()
    assert open_descriptors() == before
    until(lambda: not zombies(), what="no zombies")


@pytest.fixture
def house(build: Build) -> House:
    return build()
