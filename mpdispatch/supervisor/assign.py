"""Duty: give claimed jobs to workers, take back what waits too long, and have enough workers. Effects."""

from __future__ import annotations

import heapq
import logging
import os
from collections.abc import Iterable

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.execution.catalog import Catalog
from mpdispatch.host.linux import have_recall
from mpdispatch.host.start_journal import RECORD_JOBS
from mpdispatch.model import ClaimedJob
from mpdispatch.policy.staffing import Estimates, boot_backoff_s, depth
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.process import WorkerProcess, WorkerState
from mpdispatch.repeated import Repeated
from mpdispatch.supervisor.fork_replacement import ForkReplacement
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.suspects import Suspects

__all__ = ["Assigner"]

_LOOK_AHEAD = 1024
"""Backlog entries looked at per tick: a job that must wait for an idle worker does not hold up those behind it."""
_AT_ONCE_US = 200
"""So much work may go to one worker before it is seen which has the least."""
_AHEAD_US = 200_000
"""Claim ahead only while jobs take less than this."""
_STALE_US = SECOND_US
"""A job claimed ahead that has waited this long goes back."""
_BOOT_US = 5 * SECOND_US
"""So long nobody minds that a claimed job waits for a worker that imports the app."""
_WARMING_US = 10_000
"""While the zygote imports the app, further workers wait for it: forked, they are up sooner and share its memory."""
_GROWTH_US = 50_000
"""With a lasting surplus of short jobs, one more worker this often."""


class Assigner:
    """Who runs what, on how many workers."""

    def __init__(
        self, pool: Pool, in_flight: InFlight, config: Config, catalog: Catalog, repeats: Repeated
    ) -> None:
        self._pool, self._in_flight, self._catalog, self._repeats = pool, in_flight, catalog, repeats
        self._slots = config.slots
        self._replacement = ForkReplacement(pool)
        self._window_us = round(config.prefetch_window * SECOND_US)
        # Nothing is given that could not be taken back.
        self._most = min(config.max_prefetch, RECORD_JOBS // 2) if have_recall else 1
        self._jobs_per_worker = config.max_jobs_per_worker
        self._boots_at_once = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        self._last_spawn_us = 0
        self.boot_failures = 0
        self._boot_after_us = self._boot_failed_us = 0
        self._was_once = False
        self.is_wary = False
        """Whether workers have ended before they began anything, and no job has shown since that they work."""
        self.estimates = Estimates()
        self.suspects = Suspects()

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
        if is_none_free and now_us >= self._boot_after_us:
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

    def is_backlog_stuck(self, now_us: int) -> bool:
        """Whether claimed jobs wait longer than they were meant to: another supervisor may have a worker free."""
        in_flight = self._in_flight
        if not in_flight.backlog or now_us - in_flight.backlog_since_us <= _STALE_US:
            return False
        return self._pool.booting <= sum(self._is_late(w, now_us) for w in self._pool.workers)

    def _is_late(self, worker: WorkerProcess, now_us: int) -> bool:
        """Whether its import takes long: nobody knows how long, so nothing is kept for it."""
        return worker.state is WorkerState.BOOTING and now_us - worker.started_boot_us > _BOOT_US

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
        if len(kept) + len(returned) < len(self._in_flight.backlog):
            self._in_flight.backlog_since_us = now_us
        self._in_flight.backlog = kept
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

    # -- taking back ------------------------------------------------------------------------------------

    def recall_stuck(self, now_us: int) -> int | None:
        """Take back what waits behind a job that runs longer than jobs of its kind did.

        Gives when to look again (boottime µs), or None.
        """
        again: int | None = None
        for worker in self._pool.workers:
            if len(worker.assigned) < 2:
                continue
            head = worker.assigned[0]
            due = (worker.started_us(head) or now_us) + 2 * self._window_us
            if now_us >= due:
                self._in_flight.put_back(worker.recall(), now_us)
                due = now_us + self._window_us
            again = due if again is None else min(again, due)
        return again

    def recall_all(self, now_us: int) -> None:
        """Take back everything no worker has begun: for a drain."""
        for worker in self._pool.workers:
            self._in_flight.put_back(worker.recall(), now_us)

    # -- having enough workers --------------------------------------------------------------------------

    def staff(self, now_us: int, *, has_more: bool) -> int | None:
        """Start a worker if one is wanted and allowed. Gives when to look again (boottime µs), or None."""
        pool = self._pool
        held_back = self._in_flight.rated.workers_wanted(now_us)
        if not self._in_flight.backlog and not held_back:
            self._replacement.step(may_start=now_us >= self._boot_after_us)
        alive = sum(worker.state is not WorkerState.RETIRING for worker in pool.workers)
        if alive >= self._slots or len(pool.workers) >= 2 * self._slots:
            return None
        if now_us < self._boot_after_us:
            return self._boot_after_us
        if pool.ready and pool.spawner.is_warming:
            return now_us + _WARMING_US
        wanted = 1 if alive == 0 else min(len(self._in_flight.backlog), self._slots - alive)
        if held_back:
            coming = pool.booting + self.ready_at_once()
            wanted = max(wanted, min(held_back - coming, self._slots - alive))
        all_busy = has_more and all(worker.assigned for worker in pool.workers)
        if wanted == 0 and all_busy and now_us - self._last_spawn_us >= _GROWTH_US:
            wanted = 1
        while wanted > 0 and pool.booting < self._boots_at_once:
            try:
                pool.spawn()
            except OSError as error:
                self._repeats.say(
                    ("spawn", error.errno),
                    logging.WARNING,
                    "cannot start a worker, trying again",
                    extra={"error": str(error)},
                )
                self.boot_failed(now_us)
                return self._boot_after_us
            self._last_spawn_us = now_us
            wanted -= 1
        return now_us + _GROWTH_US if all_busy or held_back else None

    def boot_failed(self, now_us: int, *, may_be_once: bool = False) -> None:
        """A worker did not come up, or to nothing: wait longer before the next.

        `may_be_once`: it may have been somebody's doing; the first of a row is not counted.
        """
        self.is_wary = True
        if may_be_once and not self._was_once:
            self._was_once = True
            return
        self.boot_failures += 1
        self._boot_failed_us = now_us
        self._boot_after_us = now_us + round(boot_backoff_s(self.boot_failures) * SECOND_US)

    def boot_worked(self, worker: WorkerProcess) -> None:
        """A worker has done a job: one that was started since the last failure shows that the next may be, too.

        Those that were up before say nothing of it.
        """
        if worker.started_boot_us >= self._boot_failed_us:
            self.boot_failures = 0
            self._boot_after_us = 0
            self._was_once = False
        self.is_wary = bool(self.suspects.deaths) or self.boot_failures > 0
