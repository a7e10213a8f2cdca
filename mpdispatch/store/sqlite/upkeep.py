"""What the SQLite store does besides for its rows: it ends those that cannot be read. One thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from mpdispatch.clock import Clock, Instant
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.follow_ups import Followed
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.sessions import SupervisorSession
from mpdispatch.store.sql.upkeep import LOWEST_ID, SQLUpkeep
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.sqlite import unreadable


class SQLiteUpkeep(SQLUpkeep):
    """It also looks at all rows when a supervisor starts."""

    def __init__(self, session: SupervisorSession, clock: Clock, wakes: Wakes) -> None:
        super().__init__(session, clock, wakes)
        self._rows_seen: int | None = LOWEST_ID
        """Rows up to this id were checked; None: all rows."""

    def _has_unseen(self) -> bool:
        return self._rows_seen is not None or super()._has_unseen()

    def _repair(self, queues: Sequence[str]) -> int:
        after = self._rows_seen
        if after is None:
            return super()._repair(queues)
        found = self._session.read(lambda c: unreadable.astray(c, queues, after))
        count = self.end_unreadable(lambda *_: found.rows) if found.rows else 0
        if found.dependents:
            count += self.mend_dependents(found.dependents)
        self._rows_seen = found.last
        return count

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """End the unreadable ones among these running jobs of this owner; the next commit reports them."""

        def still_owned(connection: Connection, _: Instant) -> list[int]:
            owned = connection.execute(QUERIES["owned"], (owner,))
            return [job_id for job_id, _ in owned if job_id in job_ids]

        self.end_unreadable(still_owned, are_claimed=True)

    def end_unreadable(
        self, find: Callable[[Connection, Instant], Iterable[int]], *, are_claimed: bool = False
    ) -> int:
        """End the unreadable ones of these rows; the next commit reports them. Returns the number changed."""

        def work(connection: Connection) -> tuple[Followed, int]:
            now = self._clock.now()
            return unreadable.set_aside(connection, find(connection, now), now, are_claimed=are_claimed)

        followed, tidied = self._session.write(work, "set_aside")
        self.report(followed)
        return len(followed.ended) + tidied
