"""One cluster for all tests of this folder that leave it as it was, and a pool on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dask.cluster import Cluster, cluster
from tests.dask.rig import DaskRig


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
