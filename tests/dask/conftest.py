"""One cluster for all tests of this folder that leave it as it was, and a pool on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dask.cluster import Cluster, cluster
from tests.dask.rig import DaskRig
from tests.supervisor.conftest import Build
from tests.supervisor.house import House, ShiftedClock


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def rig(shared: Cluster, tmp_path: Path) -> Iterator[DaskRig]:
    made = DaskRig(tmp_path, shared.pool)
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def build(shared: Cluster, tmp_path: Path, clock: ShiftedClock) -> Iterator[Build]:
    """As for the supervisor's own tests, but its jobs run on the cluster."""
    made: list[House] = []

    def build(**options: Any) -> House:
        made.append(House(tmp_path, **{"clock": clock, "pool": shared.pool, **options}))
        return made[-1]

    yield build
    for house in made:
        house.close()


@pytest.fixture
def house(build: Build) -> House:
    return build()
