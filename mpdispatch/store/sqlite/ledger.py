"""A supervisor's face of the SQLite store. One thread; never waits: StoreBusy within 50 ms instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import starmap
from pathlib import Path
from typing import TypeVar

import msgspec

from mpdispatch import sqlite3
from mpdispatch.clock import Instant
from mpdispatch.errors import LeaseLostError
from mpdispatch.failpoints import failpoint
from mpdispatch.model import (
    ClaimedJob,
    JobState,
    Output,
    PeerSupervisor,
    Planner,
    Registration,
    Transition,
)
from mpdispatch.store.base import HeldJob, Lease, LeftBehind, Progress, Renewal, Turn
from mpdispatch.store.sqlite import claim as claiming
from mpdispatch.store.sqlite import draining, pruning, reads
from mpdispatch.store.sqlite import finish as finishing
from mpdispatch.store.sqlite import outputs as output_table
from mpdispatch.store.sqlite.connection import Flush, Session
from mpdispatch.store.sqlite.holder import holder_of
from mpdispatch.store.sqlite.place import Place
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.wake import Bell, Knocker, remove_bell

__all__ = ["SQLiteLedger"]

T = TypeVar("T")

PATIENCE_S = 0.01
"""For our lock; SQLite's own may cost BUSY_TIMEOUT_MS more. With a single try a supervisor starved beside busy
clients: 3000 of 3400 turns were refused, with 10 ms 25 of 5800."""


class SQLiteLedger:
    """Made by `SQLiteStore.ledger()`; opens on first use and creates nothing."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._session_now: Session | None = None
        self._bell: Bell | None = None
        self._knocker: Knocker | None = None
        self._seen: tuple[Session, int] | None = None

    @property
    def side_dir(self) -> Path:
        return self._place.side_dir

    def _session(self) -> Session:
        session = self._session_now
        if session is not None and not session.is_broken:
            return session
        if session is not None:
            self._place.close(session)
        self._session_now = session = self._place.open(patience_s=PATIENCE_S, create=False)
        return session

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._session().read(work)

    def _write(
        self, work: Callable[[sqlite3.Connection], T], point: str, *, flush: Flush = Flush.IN_COMMIT
    ) -> T:
        return self._session().write(work, point=point, checkpoint=False, flush=flush)

    # -- the lease ------------------------------------------------------------------------------

    def register(self, who: Registration, lease: Lease, *, now: Instant) -> int:
        """Join; gives the owner id for all later calls."""
        values = (
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
            lease.until_us,
            lease.until_boot_us,
        )
        owner = self._write(lambda c: c.execute(QUERIES["register"], values).lastrowid, "register")
        assert owner is not None
        if self._bell is not None:
            self._bell.close()
        try:
            self._bell = Bell(self.side_dir, owner)
        except OSError:
            # A file system without FIFOs: `wake_fileno` says that it has to poll.
            self._bell = None
        return owner

    def unregister(self, owner: int) -> None:
        """Leave. Only after every job was finished or released."""
        self._write(lambda c: c.execute(QUERIES["unregister"], (owner,)), "unregister")
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def wake_fileno(self) -> int | None:
        return None if self._bell is None else self._bell.fileno()

    def drain_wake(self) -> None:
        if self._bell is not None:
            self._bell.drain()

    def renew(self, owner: int, lease: Lease, *, now: Instant) -> Renewal:
        """The heartbeat: one write renews all leases."""

        def work(connection: sqlite3.Connection) -> Renewal:
            values = (now.wall_us, lease.until_us, lease.until_boot_us, owner)
            if connection.execute(QUERIES["renew"], values).rowcount != 1:
                raise LeaseLostError(owner)
            return Renewal(owned=tuple(_owned(connection, owner)))

        return self._write(work, "renew")

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        return self._read(lambda c: c.execute(QUERIES["cancel_requests"], (owner,)).fetchall())

    # -- the turn -------------------------------------------------------------------------------

    def turn(
        self,
        owner: int,
        transitions: Sequence[Transition],
        *,
        now: Instant,
        planner: Planner | None = None,
        slots: int = 0,
        progress: Sequence[Progress] = (),
        outputs: Sequence[Output] = (),
        is_expected: bool = False,
    ) -> Turn:
        """One transaction: record these outcomes, stage what is due, claim up to `slots` jobs as planned.

        A turn that might find nothing looks first, and takes no lock if so; with `is_expected` it does not look.
        """
        if not transitions and not progress and not outputs and not is_expected:
            idle = self._read(lambda c: _idle_turn(c, owner, planner, slots, now))
            if idle is not None:
                return idle

        is_synced = bool(transitions or progress or outputs)
        again = [each for each in transitions if not each.state.is_terminal]

        def work(connection: sqlite3.Connection, *, one_by_one: bool = False) -> Turn:
            if progress:
                finishing.record_progress(connection, owner, progress)
            if outputs:
                output_table.record(connection, owner, outputs)
            rejected = list[tuple[int, int]]()
            cancelled = _cancelled_instead(connection, owner, again)
            if transitions and one_by_one:
                rejected = finishing.record_one_by_one(connection, owner, transitions)
            elif transitions:
                finishing.record(connection, owner, transitions)
            # Now, for what has just been recorded may be due later; if this owner is gone, nothing of it stays.
            seen = claiming.glance(connection, owner)
            if planner is None:
                return Turn(
                    claimed=(),
                    rejected=rejected,
                    cancelled=cancelled,
                    parked={},
                    has_more=False,
                    next_due_us=None,
                    next_token_us=None,
                )
            has_more = claiming.stage(connection, planner, now, seen)
            failpoint("claim.after_stage")
            claim = claiming.claim(connection, owner, planner, slots, now, seen)
            has_more = has_more or claim.has_more
            return Turn(
                claimed=claim.jobs,
                rejected=rejected,
                cancelled=cancelled,
                parked=claim.parked,
                has_more=has_more,
                next_due_us=None if has_more else claiming.next_due_us(connection, planner.queues, seen),
                next_token_us=claiming.next_token_us(connection, planner, slots, now, seen),
                is_synced=is_synced or not claim.jobs,
            )

        try:
            turn = self._write(work, "turn", flush=Flush.IN_COMMIT if is_synced else Flush.LATER)
        except finishing.SomeRejectedError:
            turn = self._write(lambda c: work(c, one_by_one=True), "turn")
        self._offer(again)
        return turn

    def _offer(self, transitions: Sequence[Transition]) -> None:
        """Tell all supervisors if any of these jobs may be claimed again at once."""
        if any(each.state is JobState.PENDING for each in transitions):
            if self._knocker is None:
                self._knocker = Knocker(self.side_dir)
            self._knocker.knock()

    # -- the others -----------------------------------------------------------------------------

    def peers(self, owner: int) -> list[PeerSupervisor]:
        return [each for each in self._read(reads.supervisors) if each.id != owner]

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        """The running jobs of a supervisor. A read."""
        rows = self._read(lambda c: c.execute(QUERIES["jobs_of"], (owner,)).fetchall())
        return list(starmap(ClaimedJob, rows))

    def held_by(self, owner: int) -> list[HeldJob]:
        rows = self._read(lambda c: c.execute(QUERIES["held_by"], (owner,)).fetchall())
        return list(starmap(HeldJob, rows))

    def take_over(self, dead: PeerSupervisor, transitions: Sequence[Transition], *, now: Instant) -> bool:
        """Record these outcomes of a dead supervisor's jobs and strike it off, in one transaction."""
        covered = {(each.job_id, each.starts) for each in transitions}
        seen = (dead.heartbeat_us, dead.lease_until_us, dead.lease_until_boot_us)

        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute(QUERIES["lease_of"], (dead.id,)).fetchone() != seen:
                return False
            if not covered.issuperset(_owned(connection, dead.id)):
                return False
            finishing.record_one_by_one(connection, dead.id, transitions)
            connection.execute(QUERIES["unregister"], (dead.id,))
            return True

        is_done = self._write(work, "take_over")
        if is_done:
            remove_bell(self.side_dir, dead.id)
            self._offer(transitions)
        return is_done

    def outstanding(self, planner: Planner) -> dict[str, int]:
        """Jobs a drain waits for; pending and retrying are counted up to 1000 per queue."""
        return self._read(lambda c: draining.outstanding(c, planner.queues))

    def left_behind(self, planner: Planner) -> LeftBehind:
        """Jobs a drain does not wait for."""
        return self._read(lambda c: draining.left_behind(c, planner.queues))

    # -- looking after --------------------------------------------------------------------------

    def prune(self, before_us: int, limit: int) -> int:
        """Delete up to `limit` jobs that ended before this wall time; gives how many."""
        ids = self._read(lambda c: pruning.find(c, before_us, limit))
        if not ids:
            return 0
        return self._write(lambda c: pruning.delete(c, ids, before_us), "prune")

    def housekeep(self) -> None:
        """Checkpoint the WAL if it has grown past 8 MiB and nobody is writing."""
        self._session().checkpoint_if_large()

    def has_changed(self) -> bool:
        """By `PRAGMA data_version`, which counts the commits of other connections. A new connection has changed."""
        session = self._session()
        if session.path is None:
            return True  # in memory all share one connection
        version = session.read(lambda c: c.execute("PRAGMA data_version").fetchone()[0])
        before, self._seen = self._seen, (session, version)
        return before != self._seen

    def blocker(self) -> int | None:
        """Pid of the process on this host that holds the store's write lock now, if that can be known."""
        return holder_of(self.side_dir / "lock")

    def sync(self) -> None:
        """Have everything committed so far survive a power cut."""
        self._session().sync()

    def verify(self) -> None:
        """Raise StoreVanished if the file was deleted or replaced since it was opened. No I/O but a stat."""
        self._session().verify()

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        if self._knocker is not None:
            self._knocker.close()
        if self._session_now is not None:
            self._place.close(self._session_now)
            self._session_now = None


def _owned(connection: sqlite3.Connection, owner: int) -> list[tuple[int, int]]:
    return connection.execute(QUERIES["owned"], (owner,)).fetchall()


def _cancelled_instead(
    connection: sqlite3.Connection, owner: int, transitions: Sequence[Transition]
) -> list[tuple[int, int]]:
    """Those of these that will be cancelled instead of run again: `finish` does so where a cancel was asked for."""
    if not transitions:
        return []
    again = {(each.job_id, each.starts) for each in transitions}
    return [each for each in connection.execute(QUERIES["cancel_requests"], (owner,)) if each in again]


def _idle_turn(
    connection: sqlite3.Connection, owner: int, planner: Planner | None, slots: int, now: Instant
) -> Turn | None:
    """The answer of a turn that has nothing to write, or None if there is something."""
    seen = claiming.glance(connection, owner)
    next_due_us = next_token_us = None
    if planner is not None:
        if claiming.is_anything_staged(connection, planner, now, seen):
            return None
        if slots > 0 and claiming.is_anything_claimable(connection, planner, slots, now, seen):
            return None
        next_due_us = claiming.next_due_us(connection, planner.queues, seen)
        next_token_us = claiming.next_token_us(connection, planner, slots, now, seen)
    return Turn(
        claimed=(),
        rejected=(),
        parked={},
        has_more=False,
        next_due_us=next_due_us,
        next_token_us=next_token_us,
    )
