"""The retention: ended jobs go by themselves."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.errors import JobNotFoundError
from tests.supervisor.house import House


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
