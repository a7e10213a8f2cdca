"""Assigns claimed jobs to workers, and counts how many more to claim. Effects: worker channels."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.execution.catalog import Catalog
from mpdispatch.host.journal_layout import RECORD_JOBS
from mpdispatch.model import ClaimedJob
from mpdispatch.policy.staffing import Estimates, depth
from mpdispatch.pool.assigned import WorkerState
from mpdispatch.pool.protocol import Pool, Worker
from mpdispatch.supervisor.boot_backoff import BootBackoff
from mpdispatch.supervisor.in_flight import InFlight

_LOOK_AHEAD = 1024
"""Backlog entries examined per tick. A job that needs an idle worker does not block those behind it."""
_AT_ONCE_US = 200
"""One worker may get this much work before the worker with the least work is chosen again."""
_AHEAD_US = 200_000
"""Claim ahead only while the mean job takes at most this long."""
_STALE_US = SECOND_US
"""Nothing is claimed ahead for a worker that has run its job for this long."""
_BOOT_US = 5 * SECOND_US
"""A claimed job may wait this long for a worker that imports the app."""


class Assigner:
    """The loop's thread only."""

    def __init__(
        self, pool: Pool, in_flight: InFlight, config: Config, catalog: Catalog, boot_backoff: BootBackoff
    ) -> None:
        self._pool, self._in_flight, self._catalog, self._boot_backoff = pool, in_flight, catalog, boot_backoff
        self._slots = config.slots
        self._window_us = round(config.prefetch_window * SECOND_US)
        # Assign only as many jobs as can be recalled.
        self._most = min(config.max_prefetch, RECORD_JOBS // 2) if pool.may_prefetch else 1
        self._jobs_per_worker = config.max_jobs_per_worker
        self.estimates = Estimates()
        self.suspects = boot_backoff.suspects

    # -- how much to claim ------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Jobs a worker may hold now, including the running one."""
        return depth(self.estimates.overall, window_us=self._window_us, most=self._most)

    def free_slots(self, now_us: int) -> int:
        """How many jobs to claim: room at workers, also those yet to be started, less the backlog."""
        ready, stale = self._pool.ready, self._pool.stale
        if not ready and not stale:
            return 0
        not_at_work = self._not_at_work()
        room, more = self._room_at(ready, not_at_work, now_us)
        room += self._room_at_new(ready, more, now_us)
        room += self.depth * self._served_ahead(ready, not_at_work, now_us)
        return max(0, room - len(self._in_flight.backlog))

    def _room_at(self, ready: Sequence[Worker], more: int, now_us: int) -> tuple[int, int]:
        """How many jobs these workers may get, if `more` idle ones may begin; and how many more may begin then."""
        each, room = self.depth, 0
        for worker in ready:
            free = min(each - len(worker.assigned), RECORD_JOBS - worker.unwritten)
            if worker.assigned:
                # No room at a worker with a long job: a job claimed for it would be kept from other supervisors.
                if free > 0 and self._may_queue(worker, now_us):
                    room += free
            elif more > 0:
                more -= 1
                room += max(0, free)
        return room, more

    def _room_at_new(self, ready: Sequence[Worker], more: int, now_us: int) -> int:
        """How many jobs to claim for workers that are to be started."""
        # If no live worker may get more jobs, count room at workers to be started, unless a start has just
        # failed. This holds even if most jobs are short: otherwise, while two workers ran long jobs, a third
        # was never started.
        is_any_free = self.depth > 1 and any(not w.assigned or self._is_brief(w, now_us) for w in ready)
        if is_any_free or not self._boot_backoff.is_over(now_us):
            return 0
        stuck = sum(w.is_stale and not w.assigned for w in self._pool.workers)
        return max(0, more - stuck - sum(self._is_late(w, now_us) for w in self._pool.workers))

    def ready_at_once(self) -> int:
        """How many jobs would start at once if claimed now: idle workers not needed for the backlog."""
        return max(0, len(self._idle(self._pool.ready)) - self._in_flight.before_held())

    def _idle(self, ready: Sequence[Worker]) -> list[Worker]:
        """The workers that run nothing and may get a job."""
        idle = [w for w in ready if not w.assigned and w.unwritten < RECORD_JOBS]
        # Keep the newest: there may be more idle workers than slots, because some are to replace others.
        del idle[: max(0, len(idle) - self._not_at_work())]
        return idle

    def _not_at_work(self) -> int:
        """Slots without a job. A worker that runs its last job or is being killed still occupies a slot."""
        slots = min(self._slots, self._pool.capacity)
        return max(0, slots - sum(1 for worker in self._pool.workers if worker.assigned))

    def _served_ahead(self, ready: Sequence[Worker], most_idle: int, now_us: int) -> int:
        """For how many workers to claim a second batch ahead of need, so that no worker waits for a commit.

        Only while jobs are short: a job claimed ahead is kept from other supervisors, and a more urgent job
        cannot overtake it.
        """
        mean = self.estimates.overall
        if mean is None or mean > _AHEAD_US or self._window_us <= 0:
            return 0
        busy = [w for w in ready if w.assigned]
        # Count idle workers only up to the free slots: jobs claimed for more would be released again.
        idle = min(len(ready) - len(busy), most_idle)
        return idle + sum(1 for w in busy if now_us - (w.started_us(w.assigned[0]) or now_us) < _STALE_US)

    def least_load(self) -> int:
        """Estimated µs until the first worker runs dry. For short jobs its share of the backlog counts."""
        ready = self._pool.ready
        if not ready:
            return 0
        share = (
            len(self._in_flight.backlog) * (self.estimates.overall or 0) // len(ready) if self.depth > 1 else 0
        )
        return share + min(self._load(w) if w.assigned else 0 for w in ready)

    def _is_late(self, worker: Worker, now_us: int) -> bool:
        """Whether its import of the app takes long. No job is kept for such a worker."""
        return worker.state is WorkerState.BOOTING and now_us >= self.late_from_us(worker)

    def late_from_us(self, worker: Worker) -> int:
        """Boottime µs from which no claimed job waits for this worker, if it still imports the app."""
        return worker.started_boot_us + _BOOT_US + 1

    # -- assigning --------------------------------------------------------------------------------------

    def assign(self, now_us: int) -> None:
        """Assign as much of the backlog as there is room for, in order."""
        backlog = self._in_flight.backlog
        if not backlog:
            return
        given: dict[Worker, None] = {}
        backlog, later = self._begin_rated(backlog, given)
        kept: list[ClaimedJob] = []
        known: dict[str, tuple[int | None, str | None]] = {}
        suspects = self.suspects.deaths
        workers = _Workers(self, now_us)
        at = 0
        while at < len(backlog):
            job = backlog[at]
            # A suspect runs alone on an idle worker. Later jobs do not overtake it, so that it does not wait
            # for ever.
            is_suspect = job.id in suspects
            if at >= _LOOK_AHEAD or workers.are_full(for_suspect=is_suspect):
                kept.extend(backlog[at:])
                break
            if job.name not in known:
                known[job.name] = self.estimates.of(job.name), self._catalog.reference_for(job.name)
            estimate, reference = known[job.name]
            if is_suspect:
                estimate = None
            found = workers.take(estimate)
            if found is None:
                kept.append(job)
                at += 1
                continue
            worker, load = found
            count = self._in_a_row(backlog, at, worker, estimate or 0, load)
            worker.assign(backlog[at : at + count], estimate or 0, reference)
            at += count
            given[worker] = None
            workers.may_get_more(worker, load, estimate, count)
        kept += later
        returned = self._give(given)
        is_less = len(kept) + len(returned) < len(self._in_flight.backlog)
        self._in_flight.keep(kept, now_us if is_less else None)
        if returned:
            self._in_flight.put_back(returned, now_us)

    def _begin_rated(
        self, backlog: list[ClaimedJob], given: dict[Worker, None]
    ) -> tuple[list[ClaimedJob], list[ClaimedJob]]:
        """Assign the rate-limited jobs of the latest claim to idle workers, which start them at once.

        Returns the jobs of other queues that may be assigned now, and the jobs that stay in the backlog.
        """
        rated = self._in_flight.rated
        if not rated.rates:
            return backlog, []
        others, later = list[ClaimedJob](), list[ClaimedJob]()
        first = self._in_flight.before_held()
        idle = self._idle(self._pool.ready)
        for at, job in enumerate(backlog):
            if job.queue not in rated.rates:
                (others if at < first else later).append(job)
            elif idle and (job.id, job.starts) in rated.permits:
                worker = idle.pop()
                # Estimate 0: no job may wait behind a suspect.
                estimate = 0 if job.id in self.suspects.deaths else self.estimates.of(job.name)
                worker.assign([job], estimate or 0, self._catalog.reference_for(job.name))
                given[worker] = None
            else:
                later.append(job)
        rated.permits.clear()
        return others, later

    def _in_a_row(
        self, backlog: list[ClaimedJob], at: int, worker: Worker, estimate: int, load: int | None
    ) -> int:
        """How many consecutive jobs of one name this worker gets at once, if they are very short."""
        if load is None:
            return 1
        room_us = self._window_us - load
        most = min(
            _AT_ONCE_US // estimate,
            room_us // estimate,
            self._most - len(worker.assigned),
            RECORD_JOBS - worker.unwritten,
            len(backlog) - at,
        )
        if self._jobs_per_worker is not None:
            most = min(most, self._jobs_per_worker - worker.jobs_sent)
        suspects = self.suspects.deaths
        name, count = backlog[at].name, 1
        while count < most and backlog[at + count].name == name and backlog[at + count].id not in suspects:
            count += 1
        return count

    def _give(self, workers: Iterable[Worker]) -> list[ClaimedJob]:
        """Send the assigned jobs to these workers; returns the jobs that could not be sent."""
        returned: list[ClaimedJob] = []
        for worker in workers:
            returned += worker.flush()
            if self._is_worn(worker):
                worker.retire()
        return returned

    def _is_worn(self, worker: Worker) -> bool:
        return self._jobs_per_worker is not None and worker.jobs_sent >= self._jobs_per_worker

    def _has_room(self, worker: Worker) -> bool:
        return (
            len(worker.assigned) < self._most
            and worker.unwritten < RECORD_JOBS
            and worker.state is WorkerState.READY
            and not self._is_worn(worker)
        )

    def _load(self, worker: Worker) -> int:
        """Estimated work queued behind its running job, in µs."""
        return worker.work_us - worker.assigned[0].estimate_us

    def _may_queue(self, worker: Worker, now_us: int) -> bool:
        """Whether another job may wait behind the job this worker runs."""
        return bool(worker.assigned) and self._has_room(worker) and self._is_brief(worker, now_us)

    def _is_brief(self, worker: Worker, now_us: int) -> bool:
        """Whether its running job is estimated short and has not run longer. The worker must have a job."""
        head = worker.assigned[0]
        if head.stop_reason is not None:
            return False
        if not 0 < head.estimate_us < self._window_us or worker.assigned[-1].estimate_us <= 0:
            return False  # one of its jobs may be slow
        started = worker.started_us(head)
        return started is None or now_us - started <= self._window_us


class _Workers:
    """The workers in one round of assigning: idle ones first, then the one with the least work queued."""

    def __init__(self, assigner: Assigner, now_us: int) -> None:
        self._assigner, self._now_us = assigner, now_us
        self._ready = assigner._pool.ready
        self._idle = assigner._idle(self._ready)
        self._loads: list[tuple[int, int, Worker]] | None = None
        """(queued work in µs, pid to break ties, worker) of those that may hold more than the running job. Computed once
        no worker is idle."""

    def are_full(self, *, for_suspect: bool) -> bool:
        """Whether none can be given a job now. A suspect (it may have killed a worker) needs an idle worker."""
        return not self._idle and (self._loads == [] or for_suspect)

    def take(self, estimate: int | None) -> tuple[Worker, int | None] | None:
        """The worker for a job of this estimated time, with its queued work in µs (None: it is idle).

        None if the job must wait: for an idle worker, or for room within the window.
        """
        window_us = self._assigner._window_us
        if self._idle:
            return self._idle.pop(), None
        if estimate is None or estimate >= window_us:
            return None
        if self._loads is None:
            may_queue, load_of = self._assigner._may_queue, self._assigner._load
            self._loads = [(load_of(w), w.pid, w) for w in self._ready if may_queue(w, self._now_us)]
            heapq.heapify(self._loads)
        if not self._loads or self._loads[0][0] + estimate > window_us:
            return None
        load, _, worker = heapq.heappop(self._loads)
        return worker, load

    def may_get_more(self, worker: Worker, load: int | None, estimate: int | None, count: int) -> None:
        """Offer a worker again that got `count` jobs, if it has room."""
        if load is not None and self._loads is not None and self._assigner._has_room(worker):
            heapq.heappush(self._loads, (load + count * (estimate or 0), worker.pid, worker))
