"""Fixtures of the supervisor's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpdispatch.store.sqlite import SQLiteStore
from tests.pool.probes import open_descriptors, until, zombies
from tests.supervisor.house import House, ShiftedClock
from tests.supervisor.peers import Peer, stand_in

Build = Callable[..., House]


@pytest.fixture
def clock() -> ShiftedClock:
    """That of the supervisor, its peers and their store."""
    return ShiftedClock()


@pytest.fixture
def build(tmp_path: Path, clock: ShiftedClock) -> Iterator[Build]:
    """Makes houses over the one store of this test; what they leave open or unreaped is a failure."""
    before = open_descriptors()
    made: list[House] = []

    def build(**options: Any) -> House:
        made.append(House(tmp_path, **{"clock": clock, **options}))
        return made[-1]

    yield build
    for house in made:
        house.close()
    assert open_descriptors() == before
    until(lambda: not zombies(), what="no zombies")


@pytest.fixture
def house(build: Build) -> House:
    return build()


@pytest.fixture
def peer(build: Build, tmp_path: Path, clock: ShiftedClock) -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def register(**options: Any) -> Peer:
        store = SQLiteStore(tmp_path / "jobs.db", durability="process", clock=clock)
        store.migrate()
        store.close()
        made.append(Peer(store, stand_in(), **options))
        return made[-1]

    yield register
    for each in made:
        each.process.kill()
        each.process.wait()
        each.detach_files()
