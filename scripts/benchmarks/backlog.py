"""Backlog: the drain rate with much in the store over the rate with little, both supervisors warm in one run.

Each block resumes a queue, drains so many jobs in claim order, and pauses it again. The reference is a store with
nothing but the small backlog, filled up again before each of its blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from blocks import Blocks, interleave
from report import Figure, Target, from_blocks
from run import Run
from service import QUEUE, Service, until

from mpdispatch import JobState

DAY_S = 86_400.0
MANY_QUEUES = tuple(f"queue{number:02}" for number in range(50))
SURELY_OPEN = 5_000
PRIORITIES = tuple(range(9, -1, -1))


class Backlog:
    """A service whose jobs are drained a step at a time. `ids`: pending jobs in the order they will be claimed."""

    def __init__(self, service: Service, ids: Sequence[int], queues: Sequence[str] = (QUEUE,)) -> None:
        self._service, self._ids, self._queues = service, list(ids), queues

    def pause(self) -> None:
        """Returns once nothing is running."""
        for queue in self._queues:
            self._service.engine.pause_queue(queue)
        desk = self._service.engine
        until(lambda: not desk.list_jobs(state=JobState.RUNNING, limit=1).items, "running jobs to end")

    def fill_up(self, pending: int) -> None:
        """Drop those that ended and enqueue as many as are missing."""
        self._drop_ended()
        if len(self._ids) < pending:
            self._ids += self._service.enqueue("noop", pending - len(self._ids))

    def _drop_ended(self) -> None:
        """They were claimed nearly in order (queues are paused one by one): past so many open ones, all are open."""
        state_of = self._service.engine.store.state_of
        open_ids: list[int] = []
        looked = 0
        for looked, job_id in enumerate(self._ids, 1):  # noqa: B007 - how far it came is wanted
            if state_of(job_id).is_terminal:
                continue
            open_ids.append(job_id)
            if len(open_ids) == SURELY_OPEN:
                break
        self._ids = open_ids + self._ids[looked:]

    def step(self, jobs: int) -> float:
        """Jobs per second over the next so many; the queues are paused before and after."""
        self.fill_up(jobs + 1)
        marker = self._ids[jobs - 1]
        with self._service.stopped():
            for queue in self._queues:
                self._service.engine.resume_queue(queue)
        began = time.perf_counter()
        state_of = self._service.engine.store.state_of
        until(lambda: state_of(marker).is_terminal, f"job {marker} to end: {self._service.log_tail()}")
        elapsed_s = time.perf_counter() - began
        self.pause()
        return jobs / elapsed_s


def measure(run: Run) -> Iterator[Figure]:
    size = run.size
    with run.service("small") as service:
        small = Backlog(service, [])
        small.pause()

        def reference() -> float:
            small.fill_up(size.backlog_small)
            return small.step(size.backlog_step)

        for name, blocks in _scenarios(run, reference):
            yield from_blocks(
                "backlog",
                name,
                "jobs/s",
                blocks,
                "mpdispatch",
                reference_name=f"with {size.backlog_small:,} pending",
                target=Target("ratio", "≥", 0.9),
            )


def _scenarios(run: Run, reference: Callable[[], float]) -> Iterator[tuple[str, Blocks]]:
    size = run.size
    large, step = size.backlog_large, size.backlog_step

    def against(big: Backlog) -> Blocks:
        big.step(step)  # its pages are in the caches, as the reference's are
        return interleave(reference, {"mpdispatch": lambda: big.step(step)}, size.blocks)

    with run.service("large") as service:
        big = Backlog(service, [])
        big.pause()
        big.fill_up(large)
        yield f"{large:,} pending", against(big)
        service.engine.resume_queue(QUEUE)
        until(lambda: not service.has_open_jobs(), "the large backlog to drain", every_s=0.2, patience_s=1800)
        big.pause()
        big.fill_up(size.backlog_small)
        yield f"{large:,} finished kept", against(big)
    with run.service("scheduled") as service:
        service.engine.options(delay=DAY_S).enqueue_many("noop", ({} for _ in range(large)))
        big = Backlog(service, [])
        big.pause()
        big.fill_up(size.backlog_small)
        yield f"{large:,} scheduled for tomorrow", against(big)
    yield "50 queues", _with_many_queues(run, against)
    with run.service("priorities") as service:
        Backlog(service, []).pause()
        big = Backlog(service, _mixed_priorities(service, large))
        yield f"{large:,} pending of {len(PRIORITIES)} priorities", against(big)


def _with_many_queues(run: Run, against: Callable[[Backlog], Blocks]) -> Blocks:
    queues = (QUEUE, *MANY_QUEUES)
    with run.service("queues", queues=queues) as service:
        Backlog(service, [], queues).pause()
        ids: list[int] = []
        options = [service.engine.options(queue=queue) for queue in MANY_QUEUES]
        # Some of each in turn, so that every step claims from all of them.
        while len(ids) < run.size.backlog_large:
            for each in options:
                ids += each.enqueue_many("noop", ({} for _ in range(10)))
        return against(Backlog(service, ids, queues))


def _mixed_priorities(service: Service, jobs: int) -> list[int]:
    """Enqueued in rounds of all priorities; given in the order they are claimed."""
    by_priority: dict[int, list[int]] = {priority: [] for priority in PRIORITIES}
    share = jobs // (4 * len(PRIORITIES))
    for _ in range(4):
        for priority, ids in by_priority.items():
            ids += service.engine.options(priority=priority).enqueue_many("noop", ({} for _ in range(share)))
    return [job_id for ids in by_priority.values() for job_id in ids]
