"""The SQLite store as a supervisor sees it. One thread; raises StoreBusy within 50 ms instead of waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import msgspec

from mpdispatch import sqlite3
from mpdispatch.clock import Clock
from mpdispatch.errors import LeaseLostError
from mpdispatch.model import (
    ClaimedJob,
    ClaimRequest,
    JobState,
    NewSupervisor,
    PeerSupervisor,
    Transition,
)
from mpdispatch.store.crons import CronDecisions
from mpdispatch.store.optional import FileCare, NoFileCare
from mpdispatch.store.sqlite import cancels, draining, follow_ups, reads, unreadable
from mpdispatch.store.sqlite import claim as claiming
from mpdispatch.store.sqlite import commit as committing
from mpdispatch.store.sqlite import finish as finishing
from mpdispatch.store.sqlite.commit import Commit
from mpdispatch.store.sqlite.connection import Flush, Session
from mpdispatch.store.sqlite.crons import SQLiteCrons
from mpdispatch.store.sqlite.database import Database
from mpdispatch.store.sqlite.file_care import SQLiteFileCare
from mpdispatch.store.sqlite.follow_ups import Followed
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.upkeep import SQLiteUpkeep
from mpdispatch.store.sqlite.wakes import Wakes
from mpdispatch.store.values import NO_REPORTS, CommitResult, OtherOwners, Outstanding, Renewal, Reports

T = TypeVar("T")

PATIENCE_S = 0.01
"""Wait for our lock; SQLite's own may add BUSY_TIMEOUT_MS. With a single try a supervisor starved beside busy
clients: 3000 of 3400 commits were refused; with 10 ms, 25 of 5800."""


class SQLiteSupervisorStore:
    """Made by `SQLiteStore.supervisor_store()`; opens on first use and creates nothing."""

    def __init__(self, database: Database, clock: Clock, wakes: Wakes) -> None:
        self._database, self._clock, self._wakes = database, clock, wakes
        self._session_now: Session | None = None
        self.upkeep = SQLiteUpkeep(self._session, clock, wakes)
        self.crons: CronDecisions = SQLiteCrons(self._read, self._write, clock, wakes)

    @cached_property
    def file_care(self) -> FileCare:
        path = self._database.path
        if path is None:
            return NoFileCare()
        return SQLiteFileCare(self._session, path, is_shared=self._database.is_shared)

    def _session(self) -> Session:
        session = self._session_now
        if session is not None and not session.is_broken:
            return session
        if session is not None:
            self._database.close(session)
        self._session_now = session = self._database.open(patience_s=PATIENCE_S, create=False)
        return session

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._session().read(work)

    def _write(
        self, work: Callable[[sqlite3.Connection], T], point: str, *, flush: Flush = Flush.IN_COMMIT
    ) -> T:
        return self._session().write(work, point=point, checkpoint=False, flush=flush)

    # -- the lease ------------------------------------------------------------------------------

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        """Register a supervisor. Returns the owner id for all later calls."""

        def work(connection: sqlite3.Connection) -> int:
            now = self._clock.now()
            values = (
                now.wall_us,
                who.host,
                who.machine_id,
                who.boot_id,
                who.pid,
                who.pid_start,
                who.pid_namespace,
                msgspec.json.encode(who.queues).decode(),
                who.concurrency,
                who.app,
                who.version,
                now.wall_us,
                now.wall_us,
                now.wall_us + ttl_us,
                now.boot_us + ttl_us,
                who.token,
            )
            owner = connection.execute(QUERIES["register"], values).lastrowid
            assert owner is not None
            return owner

        return self._write(work, "register")

    def unregister(self, owner: int) -> None:
        """Remove the registration. Only after every job was finished or released."""
        self._write(lambda c: c.execute(QUERIES["unregister"], (owner,)), "unregister")

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        """Heartbeat: one write renews the leases of all its jobs."""

        def work(connection: sqlite3.Connection) -> Renewal:
            now = self._clock.now()
            values = (now.wall_us, now.wall_us + ttl_us, now.boot_us + ttl_us, owner)
            if connection.execute(QUERIES["renew"], values).rowcount != 1:
                raise LeaseLostError(owner)
            return Renewal(owned=tuple(_owned(connection, owner)))

        return self._write(work, "renew")

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        found, self.upkeep.has_late_cancels = self._read(lambda c: cancels.requests(c, owner))
        return found

    # -- commit ---------------------------------------------------------------------------------

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        reports: Reports = NO_REPORTS,
        *,
        claim: ClaimRequest | None = None,
        skip_idle_check: bool = False,
    ) -> CommitResult:
        """One transaction: record these outcomes and reports, stage what is due, claim what is requested.

        A commit that records nothing first checks for work and takes no lock if there is none, unless `skip_idle_check`.
        """
        commit = Commit(owner, transitions, reports, claim)
        if not commit.is_synced and not skip_idle_check and not self.upkeep.followed:
            idle = self._idle_result(commit)
            if idle is not None:
                return idle
        try:
            try:
                result = self._write_commit(commit)
            except finishing.SomeRejectedError:
                result = self._write_commit(commit, one_by_one=True)
        except unreadable.SUSPECTS:
            # End the rows first: if the store is busy before the second write, no outcome was written unreported.
            if claim is not None and not self._end_unreadable(claim) and not commit.is_synced:
                raise  # no unreadable row: the cause is something else
            result = self._write_commit(commit._replace(request=None), one_by_one=True)
            result = msgspec.structs.replace(result, has_more=claim is not None)
        if transitions or result.ended:
            self._wakes.waiting_clients()
        self._wake_if_pending(transitions)
        return self._with_followed(result)

    def _idle_result(self, commit: Commit) -> CommitResult | None:
        try:
            return self._read(
                lambda c: committing.idle_result(c, commit.owner, commit.request, self._clock.now())
            )
        except unreadable.SUSPECTS:
            return None  # the commit itself will meet the error again

    def _write_commit(self, commit: Commit, *, one_by_one: bool = False) -> CommitResult:
        result, has_due = self._write(
            lambda c: committing.write(c, commit, self._clock, one_by_one=one_by_one),
            "commit",
            flush=Flush.IN_COMMIT if commit.is_synced else Flush.LATER,
        )
        if has_due:
            self._wakes.supervisors()
        return result

    def _with_followed(self, result: CommitResult) -> CommitResult:
        if not (followed := self.upkeep.followed):
            return result
        self.upkeep.followed = Followed()
        return msgspec.structs.replace(
            result,
            ended=[*followed.ended, *result.ended],
            enqueued=[*followed.callbacks, *result.enqueued],
        )

    def _end_unreadable(self, request: ClaimRequest) -> int:
        return self.upkeep.end_unreadable(lambda c, now: unreadable.waiting(c, request, now))

    def _wake_if_pending(self, transitions: Sequence[Transition]) -> None:
        """Wake all supervisors if any of these jobs may be claimed again at once."""
        if any(each.state is JobState.PENDING for each in transitions):
            self._wakes.supervisors()

    # -- other supervisors ----------------------------------------------------------------------

    def peers(self, owner: int) -> OtherOwners:
        """The other owners. A read."""

        def work(connection: sqlite3.Connection) -> tuple[list[PeerSupervisor], list[int]]:
            owners = [row[0] for row in connection.execute(QUERIES["unknown_owners"])]
            return reads.supervisors(connection, self._clock.now()), owners

        registered, owners = self._read(work)
        return OtherOwners(
            [each for each in registered if each.id != owner],
            [each for each in owners if each != owner],
        )

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        """The running jobs of a supervisor, without the unreadable ones. A read."""
        return claiming.readable(self._read(lambda c: c.execute(QUERIES["jobs_of"], (owner,)).fetchall()))

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        """Record these outcomes of a dead supervisor's jobs and delete its registration, in one transaction."""
        covered = {(each.job_id, each.starts) for each in transitions}
        owner, seen = (dead.id, dead.renewed) if isinstance(dead, PeerSupervisor) else (dead, None)
        followed = Followed()

        def work(connection: sqlite3.Connection) -> bool:
            now = self._clock.now()
            registered = reads.supervisor(connection, owner, now)
            owned = _owned(connection, owner)
            if (None if registered is None else registered.renewed) != seen or not (owned or registered):
                return False
            left = {job_id for job_id, _ in set(owned) - covered}
            nonlocal followed
            followed, _ = unreadable.set_aside(connection, left, now, are_claimed=True)
            if not left.issubset(job.id for job, _ in followed.ended):
                return False
            recorded, _ = finishing.record_one_by_one(connection, owner, transitions)
            followed.add(follow_ups.run(connection, [each.job_id for each in recorded], now))
            connection.execute(QUERIES["unregister"], (owner,))
            return True

        is_done = self._write(work, "take_over")
        self.upkeep.report(followed)
        if is_done:
            self._wakes.waiting_clients()
            self._wake_if_pending(transitions)
        return is_done

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        return self._read(lambda c: draining.outstanding(c, queues))

    def close(self) -> None:
        if self._session_now is not None:
            self._database.close(self._session_now)
            self._session_now = None


def _owned(connection: sqlite3.Connection, owner: int) -> list[tuple[int, int]]:
    return connection.execute(QUERIES["owned"], (owner,)).fetchall()
