"""Workers and supervisors killed at random while two thousand jobs run. `STORMS=20` runs that many seeds."""

from __future__ import annotations

import os

import pytest

from tests.whole.harness import Place
from tests.whole.storm import rage

SEEDS = range(1, 1 + int(os.environ.get("STORMS", "1")))


@pytest.mark.serial
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_kill_storm_loses_nothing_and_repeats_only_what_it_hit(place: Place, seed: int) -> None:
    storm = rage(place, seed=seed, jobs=2000, within=120)
    assert storm.worker_kills + storm.supervisor_kills >= 10, "the storm must bite"
    assert storm.seconds < 60
