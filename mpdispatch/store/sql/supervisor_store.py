"""An SQL store as a supervisor sees it. One thread; raises StoreBusy within 50 ms instead of waiting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import msgspec

from mpdispatch.clock import Clock, Instant
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
from mpdispatch.store.sql import cancels, changes, draining, follow_ups, reads
from mpdispatch.store.sql import claim as claiming
from mpdispatch.store.sql import commit as committing
from mpdispatch.store.sql import finish as finishing
from mpdispatch.store.sql.changes import RequestCancel
from mpdispatch.store.sql.commit import Commit
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.crons import SQLCrons
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.sessions import Flush, SupervisorSession
from mpdispatch.store.sql.upkeep import SQLUpkeep
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.values import NO_REPORTS, CommitResult, OtherOwners, Outstanding, Renewal, Reports


class SQLSupervisorStore(ABC):
    """Works on one session, which opens on first use and creates nothing."""

    is_remote = True
    """Of a backend on a server; one in a file says otherwise."""
    syncs_claims = True
    """Whether a commit that only claims waits for the disk. A server may crash while its supervisors live on: of a claim
    that is lost then, one would run the job, and others could claim it. Where both end together, nobody is left to."""

    def __init__(
        self,
        session: SupervisorSession,
        clock: Clock,
        wakes: Wakes,
        *,
        upkeep: SQLUpkeep | None = None,
        request_cancel: RequestCancel = changes.request_cancel,
    ) -> None:
        self._session, self._clock, self._wakes = session, clock, wakes
        self.upkeep = upkeep or SQLUpkeep(session, clock, wakes)
        self.crons: CronDecisions = SQLCrons(
            session.read, session.write, clock, wakes, request_cancel=request_cancel
        )

    @property
    def file_care(self) -> FileCare:
        """None: a backend in a file has some."""
        return NoFileCare()

    # -- the lease ------------------------------------------------------------------------------

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        """Register a supervisor. Returns the owner id for all later calls."""

        def work(connection: Connection) -> int:
            now = self._clock.now()
            values = {
                "host": who.host,
                "machine_id": who.machine_id,
                "boot_id": who.boot_id,
                "pid": who.pid,
                "pid_start": who.pid_start,
                "pid_namespace": who.pid_namespace,
                "queues": msgspec.json.encode(who.queues).decode(),
                "concurrency": who.concurrency,
                "app": who.app,
                "version": who.version,
                "started_us": now.wall_us,
                "heartbeat_us": now.wall_us,
                "lease_until_wall_us": now.wall_us + ttl_us,
                "lease_until_boot_us": now.boot_us + ttl_us,
                "token": who.token,
            }
            owner = connection.execute(QUERIES["register"], values).lastrowid
            assert owner is not None
            return owner

        return self._session.write(work, "register")

    def unregister(self, owner: int) -> None:
        """Remove the registration. Only after every job was finished or released."""
        self._session.write(lambda c: c.execute(QUERIES["unregister"], (owner,)), "unregister")

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        """Heartbeat: one write renews the leases of all its jobs."""

        def work(connection: Connection) -> Renewal:
            now = self._clock.now()
            values = (now.wall_us, now.wall_us + ttl_us, now.boot_us + ttl_us, owner)
            if connection.execute(QUERIES["renew"], values).rowcount != 1:
                raise LeaseLostError(owner)
            return Renewal(owned=tuple(_owned(connection, owner)))

        return self._session.write(work, "renew")

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        found, self.upkeep.has_late_cancels = self._session.read(lambda c: cancels.requests(c, owner))
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
        result = self._committed(commit)
        if transitions or result.ended:
            self._wakes.waiting_clients()
        self._wake_if_pending(transitions)
        return self._with_followed(result)

    def _idle_result(self, commit: Commit) -> CommitResult | None:
        return self._session.read(
            lambda c: committing.idle_result(c, commit.owner, commit.request, self._clock.now())
        )

    def _committed(self, commit: Commit) -> CommitResult:
        try:
            return self._write_commit(commit)
        except finishing.SomeRejectedError:
            return self._write_commit(commit, one_by_one=True)

    def _write_commit(self, commit: Commit, *, one_by_one: bool = False) -> CommitResult:
        result, has_due = self._session.write(
            lambda c: self._commit_in(c, commit, one_by_one=one_by_one),
            "commit",
            flush=Flush.IN_COMMIT if commit.is_synced or self.syncs_claims else Flush.LATER,
        )
        if has_due:
            self._wakes.supervisors()
        if self.syncs_claims and not result.is_synced:
            return msgspec.structs.replace(result, is_synced=True)
        return result

    @abstractmethod
    def _commit_in(
        self, connection: Connection, commit: Commit, *, one_by_one: bool
    ) -> tuple[CommitResult, bool]:
        """See `commit.write`."""

    def _with_followed(self, result: CommitResult) -> CommitResult:
        if not (followed := self.upkeep.followed):
            return result
        self.upkeep.followed = Followed()
        return msgspec.structs.replace(
            result,
            ended=[*followed.ended, *result.ended],
            enqueued=[*followed.callbacks, *result.enqueued],
        )

    def _wake_if_pending(self, transitions: Sequence[Transition]) -> None:
        """Wake all supervisors if any of these jobs may be claimed again at once."""
        if any(each.state is JobState.PENDING for each in transitions):
            self._wakes.supervisors()

    # -- other supervisors ----------------------------------------------------------------------

    def peers(self, owner: int) -> OtherOwners:
        """The other owners. A read."""

        def work(connection: Connection) -> tuple[list[PeerSupervisor], list[int]]:
            owners = [row[0] for row in connection.execute(QUERIES["unknown_owners"])]
            return reads.supervisors(connection, self._clock.now()), owners

        registered, owners = self._session.read(work)
        return OtherOwners(
            [each for each in registered if each.id != owner],
            [each for each in owners if each != owner],
        )

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        """The running jobs of a supervisor, without the unreadable ones. A read."""
        return claiming.readable(
            self._session.read(lambda c: c.execute(QUERIES["jobs_of"], (owner,)).fetchall())
        )

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        """Record these outcomes of a dead supervisor's jobs and delete its registration, in one transaction."""
        covered = {(each.job_id, each.starts) for each in transitions}
        owner, seen = (dead.id, dead.renewed) if isinstance(dead, PeerSupervisor) else (dead, None)
        followed = Followed()

        def work(connection: Connection) -> bool:
            now = self._clock.now()
            registered = reads.supervisor(connection, owner, now)
            owned = _owned(connection, owner)
            if (None if registered is None else registered.renewed) != seen or not (owned or registered):
                return False
            left = {job_id for job_id, _ in set(owned) - covered}
            nonlocal followed
            followed = self._set_aside(connection, left, now)
            if not left.issubset(job.id for job, _ in followed.ended):
                return False
            recorded, _ = finishing.record_one_by_one(connection, owner, transitions)
            followed.add(follow_ups.run(connection, [each.job_id for each in recorded], now))
            connection.execute(QUERIES["unregister"], (owner,))
            return True

        is_done = self._session.write(work, "take_over")
        self.upkeep.report(followed)
        if is_done:
            self._wakes.waiting_clients()
            self._wake_if_pending(transitions)
        return is_done

    def _set_aside(self, connection: Connection, job_ids: Iterable[int], now: Instant) -> Followed:
        """End the unreadable ones among these running jobs that no supervisor holds."""
        return Followed()

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        return self._session.read(lambda c: draining.outstanding(c, queues))

    def close(self) -> None:
        self._session.close()


def _owned(connection: Connection, owner: int) -> list[tuple[int, int]]:
    return connection.execute(QUERIES["owned"], (owner,)).fetchall()
