"""The steps of the machine that concern batches and jobs that wait for others: a part of `machine.Machine`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st

from mpdispatch.model import Job, NewBatch, NewJob

from . import draws
from .steps import places, sides, step

if TYPE_CHECKING:
    from .machine import Supervisor
    from .model import Model

batch_ids = st.integers(1, 4)


class BatchSteps:
    model: Model
    supervisors: list[Supervisor]
    both: Callable[..., Any]
    jobs: Callable[[], list[Job]]
    due: Callable[..., NewJob]
    one_that_holds_jobs: Callable[[int], Supervisor]
    decided: Callable[..., Any]
    commit: Callable[..., Any]
    page_through: Callable[..., None]
    last_id: int

    def begin_batches(self) -> None:
        self.last_batch = 0
        self.batch_filters = cycle(draws.BATCH_FILTERS)

    def batches(self, call: str, *args: Any, **options: Any) -> Any:
        return self.both(f"batches.{call}", *args, **options)

    # ---------------------------------------------------------------- what people do

    @step(2, new=draws.new_batches)
    def open_a_batch(self, new: NewBatch) -> None:
        self.batches("open", new)

    @step(3, job=draws.new_jobs, key=draws.keys, batch_id=batch_ids)
    def add_a_member(self, job: NewJob, key: str | None, batch_id: int) -> None:
        self.both("enqueue", self.due(job, None, idempotency_key=key, batch_id=batch_id), is_synced=False)

    @step(
        3, new=draws.new_batches, job=draws.new_jobs, payloads=st.lists(draws.payloads, min_size=1, max_size=4)
    )
    def enqueue_a_whole_batch(self, new: NewBatch, job: NewJob, payloads: list[bytes]) -> None:
        jobs = [msgspec.structs.replace(job, payload=payload) for payload in payloads]
        self.both("enqueue_many", jobs, batch=new)

    @step(3, batch_id=batch_ids)
    def close_a_batch(self, batch_id: int) -> None:
        self.batches("close", batch_id)

    @step(1, batch_id=batch_ids)
    def cancel_a_batch(self, batch_id: int) -> None:
        self.batches("cancel", batch_id)

    @step(2, batch_id=batch_ids)
    def retry_a_batch(self, batch_id: int) -> None:
        self.batches("retry", batch_id)

    @step(
        4,
        job=draws.new_jobs,
        key=draws.keys,
        wait_us=draws.waits_us,
        parents=st.lists(places, min_size=1, max_size=3),
        policy=st.sampled_from(["cancel", "run", "wait"]),
        batch_id=st.sampled_from([None, None, 1, 2]),
    )
    def enqueue_after_others(
        self,
        job: NewJob,
        key: str | None,
        wait_us: int | None,
        parents: list[int],
        policy: str,
        batch_id: int | None,
    ) -> None:
        """After some of the newest jobs, or one that is not there."""
        ids = [job.id for job in self.jobs()]
        after = tuple(ids[at] if at < len(ids) else self.last_id + 1 for at in parents)
        more = {"after": after, "on_parent_failure": policy, "batch_id": batch_id}
        self.both("enqueue", self.due(job, wait_us, idempotency_key=key, **more))

    @step(
        3,
        side=sides,
        outcomes=st.lists(st.sampled_from(["completed", "raised for good"]), min_size=4, max_size=4),
    )
    def finish_all(self, side: int, outcomes: list[str]) -> None:
        """Batches end, and dependents go on."""
        by = self.one_that_holds_jobs(side)
        self.commit(by, self.decided(outcomes, by.held))

    # ---------------------------------------------------------------- all there is to see

    def all_batches_are_the_same(self) -> None:
        while self.batches("get", self.last_batch + 1) is not None:
            self.last_batch += 1
        for batch_id in range(self.last_batch + 1):
            self.batches("get", batch_id)
            self.batches("members", batch_id, after_id=0, limit=1000)
            self.batches("members", batch_id, after_id=2, limit=1)
        for key in draws.BATCH_KEYS:
            self.batches("with_key", key)
        self.page_through("batches.page", next(self.batch_filters))
        for job_id in range(1, self.last_id + 1):
            for call in ("parents", "awaited", "dependents"):
                self.both(call, job_id)
