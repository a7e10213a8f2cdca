"""The retention: ended jobs go by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpdispatch.errors import JobNotFoundError
from tests.supervisor.house import House


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({}, 0),
        ({"retention": 0, "retention_failed": 0}, 6),
        ({"retention": None, "retention_failed": None, "retention_limit": 2}, 2),
    ],
    ids=["by default", "0: for ever", "limit"],
)
def test_what_has_ended_is_kept_as_long_as_the_settings_say(
    tmp_path: Path, config: dict[str, object], left: int
) -> None:
    house = House(tmp_path, config={"stale_job_threshold": 10**9, "heartbeat_interval": 10**8, **config})
    try:
        ids = [house.enqueue("noop") for _ in range(6)]
        for each in ids:
            house.ended(each)
        house.clock.advance(8 * 86_400)
        seen = 0

        def is_settled() -> bool:
            nonlocal seen
            house.clock.advance(61)  # a round begins once a minute
            seen += 1
            return seen > 5 and sum(house.store.counts().values()) <= left

        house.until(is_settled, what="jobs to be pruned")
        assert sum(house.store.counts().values()) == left
    finally:
        house.close()


def test_jobs_past_their_retention_are_pruned_while_others_run(tmp_path: Path) -> None:
    house = House(tmp_path, config={"retention": 60, "stale_job_threshold": 3600, "heartbeat_interval": 1000})
    try:
        old = house.enqueue("noop")
        house.ended(old)
        house.clock.advance(50)
        young = house.enqueue("noop")
        house.ended(young)
        house.clock.advance(70 - 50)

        def is_gone() -> bool:
            try:
                house.store.get(old)
            except JobNotFoundError:
                return True
            house.clock.advance(1)
            return False

        house.until(is_gone, what="the old job to be pruned")
        assert house.store.get(young).state.is_terminal
    finally:
        house.close()
