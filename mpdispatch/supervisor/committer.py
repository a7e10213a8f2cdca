"""Duty: write the decided outcomes, and claim more jobs in the same transaction. Effects: the store.

Group commit is bounded in time: while every worker has work queued, outcomes gather for at most
`_MAX_MANY_DELAY_US`. As soon as a worker might run dry, or a lone job ends, they are committed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mpdispatch.clock import Instant
from mpdispatch.failpoints import failpoint
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import CommitResult, Reports
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.claim_sync import ClaimSync
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.contention import Contention
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.in_flight import InFlight, PendingOutcome
from mpdispatch.supervisor.outcome_reporter import OutcomeReporter
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import Shutdown

_MAX_DELAY_US = 4_000
"""Longest a single decided outcome waits for others before it goes to disk."""
_MAX_MANY_DELAY_US = 8_000
"""The same for several outcomes. It halves the commits for jobs of 1 ms, which took a tenth of the time."""
_MOST_JOBS = 800
"""Most outcomes a commit writes, and most jobs it claims, for any number of workers. Such a commit holds the
write lock for some 15 ms, while no one else wants it. Half as many cost a fifth of the drain rate."""
_MOST_WHILE_CONTENDED = 40
"""The same while others enqueue: 99 % of enqueues wait at most 3.5 ms; with 800 it was 20 ms."""
_YIELD_US = 1_000
"""Pause after such a commit if it reached the limit: a waiting enqueue tries the lock every 0.1 ms."""


class _Due(NamedTuple):
    """What one commit writes."""

    items: Sequence[PendingOutcome]
    ended: Sequence[tuple[int, int]]
    """(job id, starts) of the outcomes, if any job has output."""
    reports: Reports

    @property
    def is_synced(self) -> bool:
        """Whether it writes anything: such a commit is flushed to the disk."""
        return bool(self.items or self.reports)


@dataclass(slots=True)
class Committer:
    """Due when outcomes have gathered long enough, or when there is room to claim. Times are boottime µs."""

    _runtime: Runtime
    _store: SupervisorStore
    _heartbeat: Heartbeat
    _in_flight: InFlight
    _assigner: Assigner
    _claimer: Claimer
    _claim_sync: ClaimSync
    _contention: Contention
    _reporter: OutcomeReporter
    _shutdown: Shutdown
    _yield_until_us: int = 0
    is_gathering: bool = False
    """Whether outcomes wait for more: then only urgent events need wake the loop. Written only here."""

    # -- when -----------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        now_us = self._runtime.clock.now().boot_us
        self.is_gathering = False
        in_flight, claims_at_us = self._in_flight, self._claimer.next_us
        if (
            in_flight.pending
            or in_flight.progress
            or (not self._shutdown.is_on and self._claimer.wants(now_us))
        ):
            delay_us = 0 if self._shutdown.is_on else self.delay_us(now_us)
            self.is_gathering = delay_us > 0
            return now_us + delay_us if delay_us else 0
        due = [at for at in (in_flight.outputs.next_us,) if at is not None]
        if claims_at_us > now_us:
            due.append(claims_at_us)  # a past time waits for a free worker, whose reply wakes the loop
        return min(due, default=None)

    def may_commit(self, now_us: int) -> bool:
        """Whether a commit need not wait, and new jobs may be claimed."""
        return not self._shutdown.is_on and self.delay_us(now_us) == 0

    def run(self, now: Instant) -> None:
        """Raises StoreError, LeaseLostError."""
        if self._shutdown.is_on or self.delay_us(now.boot_us) == 0:
            self.commit(now.boot_us)

    def delay_us(self, now_us: int) -> int:
        """How long the next commit waits for more outcomes or yields the lock to others; 0: commit now."""
        in_flight = self._in_flight
        if (at := in_flight.outputs.next_us) is not None and at <= now_us:
            return 0
        if in_flight.rated.held_back and self._assigner.ready_at_once():
            return 0
        pause = self._yield_until_us - now_us
        rest = self._assigner.least_load()
        if rest < _MAX_DELAY_US // 2:
            return max(0, pause)
        pending = in_flight.pending
        most = _MAX_DELAY_US if len(pending) <= 1 else _MAX_MANY_DELAY_US
        waited = now_us - in_flight.pending_since_us if pending else 0
        if in_flight.progress:
            waited = max(waited, now_us - in_flight.progress_since_us)
        return max(0, pause, min(rest // 2, most - waited))

    # -- the commit -----------------------------------------------------------------------------------

    def commit(self, now_us: int, *, skip_idle_check: bool = False) -> None:
        """Write the decided outcomes and, if there is room, claim more jobs: one transaction.

        `skip_idle_check`: a job has just been enqueued.

        Raises StoreError, LeaseLostError: then nothing was written, and everything is still held in memory.
        """
        is_contended = self._contention.is_on(now_us)
        most = _MOST_WHILE_CONTENDED if is_contended else _MOST_JOBS
        slots, ready = self._room(most, now_us)
        due = self._due(most, now_us)
        if not (due.is_synced or slots):
            return
        failpoint("commit.before")
        asked_at = self._runtime.clock.now()
        # Charge no token in a commit that waits for the disk.
        ready = 0 if due.is_synced and ready is not None else ready
        result = self._store.commit(
            self._heartbeat.owner,
            [item.transition for item in due.items],
            due.reports,
            claim=self._claimer.request(slots, ready) if slots else None,
            skip_idle_check=skip_idle_check and slots > 0,
        )
        if is_contended and most in (len(due.items), len(result.claimed)):
            self._yield_until_us = self._runtime.clock.now().boot_us + _YIELD_US
        self._written(due, result, now_us)
        if slots:
            self._claimed(result, asked_at, is_synced=due.is_synced)
        self._store.file_care.checkpoint_if_large()

    def _claimed(self, result: CommitResult, asked_at: Instant, *, is_synced: bool) -> None:
        """Process what a commit claimed. `is_synced`: it waited for the disk, and left rate-limited jobs to another."""
        self._claimer.took(result, asked_at)
        if not result.is_synced:
            # Last: if the flush fails, the commit has already been processed.
            self._claim_sync.claimed(result)
        rated = self._in_flight.rated
        if rated.held_back and is_synced:
            self._claim_held_back(asked_at.boot_us)
        if rated.permits:
            self._assigner.assign(self._runtime.clock.now().boot_us)

    def _room(self, most: int, now_us: int) -> tuple[int, int | None]:
        """As `Claimer.room`, but at most `most` jobs, and none during a shutdown."""
        if self._shutdown.is_on:
            return 0, None
        slots, ready = self._claimer.room(now_us)
        return min(slots, most), ready

    def _due(self, most: int, now_us: int) -> _Due:
        """What the next commit writes: up to `most` outcomes, and what running jobs report."""
        in_flight = self._in_flight
        items = in_flight.pending[:most]
        ended = (
            [(each.transition.job_id, each.transition.starts) for each in items] if in_flight.outputs else []
        )
        reports = Reports(list(in_flight.progress.values()), in_flight.outputs.due(now_us, ended))
        return _Due(items, ended, reports)

    def _written(self, due: _Due, result: CommitResult, now_us: int) -> None:
        items, reports = due.items, due.reports
        if due.is_synced:
            self._claim_sync.flushed()
        self._in_flight.outputs.written(reports.outputs, due.ended, now_us)
        self._reporter.followed(result)
        if self._reporter.written(items, result):
            self._claimer.try_now()  # a retried or released job may be due before the next poll
        self._claimer.wrote(len(items))
        if items or reports.progress:
            self._in_flight.written(len(items), reports.progress)
            self._runtime.pool.free_records()

    def _claim_held_back(self, now_us: int) -> None:
        """Claim rate-limited jobs for idle workers, in a separate transaction that is not flushed."""
        slots, ready = self._claimer.room(now_us)
        if not ready:
            return
        asked_at = self._runtime.clock.now()
        result = self._store.commit(
            self._heartbeat.owner,
            [],
            claim=self._claimer.request(min(slots, _MOST_JOBS), ready),
        )
        self._reporter.followed(result)
        self._claimer.took_held_back(result, asked_at)
        if not result.is_synced:
            self._claim_sync.claimed(result)
