"""What an SQL store does for its rows in small steps, between the commits of a supervisor. One thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from mpdispatch.clock import Clock, Instant
from mpdispatch.policy.waits import was_set_back
from mpdispatch.store.sql import cancels, expiring, follow_ups, lost_dependents, pruning, waits
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.rounds import Round, Step
from mpdispatch.store.sql.sessions import Flush, SupervisorSession
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.values import PruneStep, Retention, UpkeepStep

LOWEST_ID = -(1 << 63)
_READ_FOR_S = 0.002
"""A step of pruning reads no longer than this, and a read takes up to 1 ms."""


class SQLUpkeep:
    """A `StoreUpkeep`.

    It looks for expired jobs at each step, at all dependents when a supervisor starts, at waiting jobs after the clock
    was set back.
    """

    def __init__(self, session: SupervisorSession, clock: Clock, wakes: Wakes) -> None:
        self._session, self._clock, self._wakes = session, clock, wakes
        self.has_late_cancels = False
        """Whether the last read of the cancel requests has found some of ended jobs."""
        self.followed = Followed()
        """Jobs that the store has ended, and what followed, until a commit has reported them."""
        self._latest = Instant(0, 0)
        """When the wall clock was furthest ahead of boottime since it was last set back."""
        self._looks_at_waits = True
        self._waits_seen: waits.Seen | None = None
        self._pruning: Round[int] | None = None
        self._dependents_seen: int | None = LOWEST_ID
        """Jobs up to this id that wait for others were checked; None: all of them."""

    def step(self, queues: Sequence[str]) -> UpkeepStep:
        """One bounded step: it ends expired jobs and members of cancelled batches, and looks at one of these: waiting jobs,
        rows that no query finds, late cancel requests.
        """
        expired, has_more_expired = self._expire()
        is_cancelling = self._cancel_members()
        rebased = repaired = 0
        if self._watch_clock() or self._looks_at_waits:
            rebased = self._rebase(queues)
        elif self._has_unseen():
            repaired = self._repair(queues)
        elif self.has_late_cancels:
            gone = self._session.write(cancels.forget_late, "cancels", flush=Flush.LATER)
            self.has_late_cancels = gone >= cancels.FORGET_AT_ONCE
        has_more = self._looks_at_waits or self._has_unseen() or self.has_late_cancels
        return UpkeepStep(rebased, repaired, has_more or has_more_expired or is_cancelling, expired)

    def _has_unseen(self) -> bool:
        """Whether some rows are still to be looked at once, as another program may have written them."""
        return self._dependents_seen is not None

    def _repair(self, queues: Sequence[str]) -> int:
        """Look at the next of these. Returns the number of rows repaired."""
        after = self._dependents_seen
        if after is None:
            return 0
        found, last = self._session.read(lambda c: lost_dependents.look(c, after))
        count = self.mend_dependents(found) if found else 0
        self._dependents_seen = last
        return count

    def _expire(self) -> tuple[int, bool]:
        """How many jobs have expired that nobody has claimed; and whether there may be more."""
        session, now = self._session, self._clock.now()
        if not session.read(lambda c: expiring.is_any_past(c, now)):
            return 0, False
        followed, count, has_more = session.write(
            lambda c: expiring.end_past(c, now), "expire", flush=Flush.LATER
        )
        self.report(followed)
        return count, has_more

    def _cancel_members(self) -> bool:
        """One step of cancelling the members of a batch. Returns whether there may be more."""
        session = self._session
        if session.read(lambda c: c.execute(QUERIES["cancelling_batch"], {"id": None}).fetchone()) is None:
            return False
        followed, has_more = session.write(
            lambda c: follow_ups.cancel_some(c, self._clock.now()), "cancel_members", flush=Flush.LATER
        )
        self.report(followed)
        return has_more

    def _run(self, point: str) -> Callable[[Step], Any]:
        session = self._session

        def run(step: Step) -> Any:
            if not step.is_write:
                return session.read(step.work)
            # A power cut undoes the last steps, and they are repeated.
            return session.write(step.work, point, flush=Flush.LATER)

        return run

    def _watch_clock(self) -> bool:
        """Whether the wall clock was set back since the last step. Then all waiting jobs are looked at anew."""
        now = self._clock.now()
        is_back = was_set_back(self._latest, now)
        if is_back:
            self._looks_at_waits, self._waits_seen = True, None
        if is_back or now.wall_us - now.boot_us > self._latest.wall_us - self._latest.boot_us:
            self._latest = now
        return is_back

    def _rebase(self, queues: Sequence[str]) -> int:
        session, now, changed = self._session, self._clock.now(), 0
        changes, seen = session.read(lambda c: waits.outdated(c, queues, now, self._waits_seen))
        if changes:
            changed = session.write(lambda c: waits.rebase(c, changes), "rebase", flush=Flush.LATER)
        self._waits_seen, self._looks_at_waits = seen, seen is not None
        return changed

    def mend_dependents(self, ids: Sequence[int]) -> int:
        followed, count = self._session.write(
            lambda c: lost_dependents.mend(c, ids, self._clock.now()), "mend_dependents"
        )
        self.report(followed)
        return count

    def prune(self, retention: Retention) -> PruneStep:
        """Some reads and at most one transaction of a round. A round begins with the first call after the last one."""
        found = self._pruning
        if found is None:
            found = self._pruning = Round(pruning.by_retention(retention, self._clock.now().wall_us))
        found.run(self._run("prune"), for_s=_READ_FOR_S)
        if found.result is None:
            return PruneStep(0, has_more=True)
        self._pruning = None
        return PruneStep(found.result, has_more=False)

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """None: a backend whose tables refuse whatever a claim cannot read has no such rows."""

    def report(self, followed: Followed) -> None:
        """The store has done this: the next commit reports it, and who waits for it hears of it now."""
        self.followed.add(followed)
        if followed:
            self._wakes.waiting_clients()
        if followed.has_due:
            self._wakes.supervisors()
