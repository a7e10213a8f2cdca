"""Which claimed jobs go to which worker, and how many more there is a place for. Effects: worker channels."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.execution.catalog import Catalog
from mpdispatch.host.linux import have_recall
from mpdispatch.host.start_journal import RECORD_JOBS
from mpdispatch.model import ClaimedJob
from mpdispatch.policy.staffing import Estimates, depth
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerProcess, WorkerState
from mpdispatch.supervisor.boot_backoff import BootBackoff
from mpdispatch.supervisor.in_flight import InFlight

__all__ = ["Assigner"]

_LOOK_AHEAD = 1024
"""Backlog entries looked at per tick: a job that must wait for an idle worker does not hold up those behind it."""
_AT_ONCE_US = 200
"""So much work may go to one worker before it is seen which has the least."""
_AHEAD_US = 200_000
"""Claim ahead only while jobs take less than this."""
_STALE_US = SECOND_US
"""For a worker that has run its job for this long nothing is claimed ahead."""
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
        # Nothing is given that could not be taken back.
        self._most = min(config.max_prefetch, RECORD_JOBS // 2) if have_recall else 1
        self._jobs_per_worker = config.max_jobs_per_worker
        self.estimates = Estimates()
        self.suspects = boot_backoff.suspects

    # -- how much to claim ------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Jobs a worker may hold now, the running one included."""
        return depth(self.estimates.overall, window_us=self._window_us, most=self._most)

    def free_slots(self, now_us: int) -> int:
        """How many jobs there is a place for: in the hands of workers, and with workers still to be started."""
        ready, stale = self._pool.ready, self._pool.stale
        if not ready and not stale:
            return 0
        each, room = self.depth, 0
        most = more = self._not_at_work()
        for worker in ready:
            free = min(each - len(worker.assigned), RECORD_JOBS - worker.unsettled)
            if worker.assigned:
                # None with a worker whose job takes long: what is claimed for it would be kept from other supervisors.
                if free > 0 and self._may_queue(worker, now_us):
                    room += free
            elif more > 0:
                more -= 1
                room += max(0, free)
        # If all there are get no more jobs for now, others are started for them, unless that has just failed. However
        # short jobs mostly are: else, with two at work on long ones, a third was never started, and jobs waited for them.
        is_none_free = each == 1 or not any(not w.assigned or self._is_brief(w, now_us) for w in ready)
        if is_none_free and self._boot_backoff.is_over(now_us):
            stuck = sum(w.sender.is_stale and not w.assigned for w in self._pool.workers)
            room += max(0, more - stuck - sum(self._is_late(w, now_us) for w in self._pool.workers))
        room += each * self._served_ahead(ready, most, now_us)
        return max(0, room - len(self._in_flight.backlog))

    def ready_at_once(self) -> int:
        """How many jobs would be begun at once, if they were claimed now: by workers that wait, and not for the backlog."""
        return max(0, len(self._idle(self._pool.ready)) - self._in_flight.before_held())

    def _idle(self, ready: list[WorkerProcess]) -> list[WorkerProcess]:
        """Those that do nothing, and may have a job."""
        idle = [w for w in ready if not w.assigned and w.unsettled < RECORD_JOBS]
        # The newest, for there may be more than are wanted: those that are to take another's place.
        del idle[: max(0, len(idle) - self._not_at_work())]
        return idle

    def _not_at_work(self) -> int:
        """How many more workers may have a job: one that has done its last, or is being killed, counts until then."""
        return max(0, self._slots - sum(1 for worker in self._pool.workers if worker.assigned))

    def _served_ahead(self, ready: list[WorkerProcess], most_idle: int, now_us: int) -> int:
        """For how many workers a second helping is claimed before they want it, so that none waits for a commit.

        Only if jobs are over soon: what is claimed ahead is kept from other supervisors, and a more urgent job
        cannot overtake it.
        """
        mean = self.estimates.overall
        if mean is None or mean > _AHEAD_US or self._window_us <= 0:
            return 0
        busy = [w for w in ready if w.assigned]
        # Of those that wait no more than may have a job: for another it would be claimed in vain, and given back.
        idle = min(len(ready) - len(busy), most_idle)
        return idle + sum(1 for w in busy if now_us - (w.started_us(w.assigned[0]) or now_us) < _STALE_US)

    def least_load(self) -> int:
        """Estimated µs until a worker runs dry, at the soonest: short jobs of the backlog are its next helping."""
        ready = self._pool.ready
        if not ready:
            return 0
        share = (
            len(self._in_flight.backlog) * (self.estimates.overall or 0) // len(ready) if self.depth > 1 else 0
        )
        return share + min(self._load(w) if w.assigned else 0 for w in ready)

    def _is_late(self, worker: WorkerProcess, now_us: int) -> bool:
        """Whether its import takes long: nobody knows how long, so nothing is kept for it."""
        return worker.state is WorkerState.BOOTING and now_us >= self.late_from_us(worker)

    def late_from_us(self, worker: WorkerProcess) -> int:
        """From when (boottime) no claimed job waits for it any more, if it still imports the app."""
        return worker.started_boot_us + _BOOT_US + 1

    # -- giving out -------------------------------------------------------------------------------------

    def assign(self, now_us: int) -> None:
        """Give out as much of the backlog as there is room for, in order."""
        backlog = self._in_flight.backlog
        if not backlog:
            return
        estimates: dict[str, int | None] = {}
        references: dict[str, str | None] = {}
        given: dict[int, WorkerProcess] = {}
        backlog, later = self._begin_rated(backlog, given)
        kept: list[ClaimedJob] = []
        suspects, ready = self.suspects.deaths, self._pool.ready
        idle = self._idle(ready)
        # (work queued in µs, pid against ties, worker) of those that may hold more than the running job; looked for
        # when nobody is idle any more.
        loads: list[tuple[int, int, WorkerProcess]] | None = None
        at = 0
        while at < len(backlog):
            # A suspect goes to a worker that has nothing else, and gets nothing else. It is not passed by for ever.
            if at >= _LOOK_AHEAD or (not idle and (loads == [] or backlog[at].id in suspects)):
                kept.extend(backlog[at:])
                break
            name, count = backlog[at].name, 1
            if name not in estimates:
                estimates[name] = self.estimates.of(name)
                references[name] = self._catalog.reference_for(name)
            estimate = None if backlog[at].id in suspects else estimates[name]
            if idle:
                load, worker = 0, idle.pop()
            elif estimate is None or estimate >= self._window_us:
                kept.append(backlog[at])
                at += 1
                continue
            else:
                if loads is None:
                    loads = [(self._load(w), w.pid, w) for w in ready if self._may_queue(w, now_us)]
                    heapq.heapify(loads)
                if not loads or loads[0][0] + estimate > self._window_us:
                    kept.append(backlog[at])
                    at += 1
                    continue
                load, _, worker = heapq.heappop(loads)
                count = self._in_a_row(backlog, at, worker, estimate, self._window_us - load)
            worker.assign(backlog[at : at + count], estimate or 0, references[name])
            at += count
            given[worker.pid] = worker
            if loads is not None and estimate is not None and self._has_room(worker):
                heapq.heappush(loads, (load + count * estimate, worker.pid, worker))
        kept += later
        returned = self._give(given.values())
        is_less = len(kept) + len(returned) < len(self._in_flight.backlog)
        self._in_flight.keep(kept, now_us if is_less else None)
        if returned:
            self._in_flight.put_back(returned, now_us)

    def _begin_rated(
        self, backlog: list[ClaimedJob], given: dict[int, WorkerProcess]
    ) -> tuple[list[ClaimedJob], list[ClaimedJob]]:
        """Give jobs of rate-limited queues that were claimed just now to workers that begin them now.

        Gives the jobs of other queues whose turn it is, and those that stay.
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
                # Nothing waits behind a suspect.
                estimate = 0 if job.id in self.suspects.deaths else self.estimates.of(job.name)
                worker.assign([job], estimate or 0, self._catalog.reference_for(job.name))
                given[worker.pid] = worker
            else:
                later.append(job)
        rated.permits.clear()
        return others, later

    def _in_a_row(
        self, backlog: list[ClaimedJob], at: int, worker: WorkerProcess, estimate: int, room_us: int
    ) -> int:
        """How many jobs of the same name this worker gets at once: very short ones need not be dealt one by one."""
        most = min(
            _AT_ONCE_US // estimate,
            room_us // estimate,
            self._most - len(worker.assigned),
            RECORD_JOBS - worker.unsettled,
            len(backlog) - at,
        )
        if self._jobs_per_worker is not None:
            most = min(most, self._jobs_per_worker - worker.jobs_sent)
        suspects = self.suspects.deaths
        name, count = backlog[at].name, 1
        while count < most and backlog[at + count].name == name and backlog[at + count].id not in suspects:
            count += 1
        return count

    def _give(self, workers: Iterable[WorkerProcess]) -> list[ClaimedJob]:
        """Send what was put into their hands; gives back what could not be sent."""
        returned: list[ClaimedJob] = []
        for worker in workers:
            returned += worker.flush()
            if self._is_worn(worker):
                worker.retire()
        return returned

    def _is_worn(self, worker: WorkerProcess) -> bool:
        return self._jobs_per_worker is not None and worker.jobs_sent >= self._jobs_per_worker

    def _has_room(self, worker: WorkerProcess) -> bool:
        return (
            len(worker.assigned) < self._most
            and worker.unsettled < RECORD_JOBS
            and worker.state is WorkerState.READY
            and not self._is_worn(worker)
        )

    def _load(self, worker: WorkerProcess) -> int:
        """Work queued behind its running job, by estimate, in µs."""
        return worker.work_us - worker.assigned[0].estimate_us

    def _may_queue(self, worker: WorkerProcess, now_us: int) -> bool:
        """Whether anything may wait behind what this worker runs."""
        return bool(worker.assigned) and self._has_room(worker) and self._is_brief(worker, now_us)

    def _is_brief(self, worker: WorkerProcess, now_us: int) -> bool:
        """Whether what it runs is known to be short, and is being short. Only of one that runs something."""
        head = worker.assigned[0]
        if head.stop_reason is not None:
            return False
        if not 0 < head.estimate_us < self._window_us or worker.assigned[-1].estimate_us <= 0:
            return False  # what it runs may be slow
        started = worker.started_us(head)
        return started is None or now_us - started <= self._window_us
