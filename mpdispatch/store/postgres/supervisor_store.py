"""The PostgreSQL store as a supervisor sees it: one connection, which waits for no lock longer than 50 ms."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpdispatch.clock import Clock
from mpdispatch.model import ClaimRequest, Transition
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.session import CommitUnknown
from mpdispatch.store.postgres.sessions import SupervisorSession
from mpdispatch.store.postgres.ways import WAYS
from mpdispatch.store.sql import commit as committing
from mpdispatch.store.sql.commit import Commit
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.supervisor_store import SQLSupervisorStore
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.unsettled import Untold
from mpdispatch.store.values import NO_REPORTS, CommitResult, Reports

_SHOWN_NUL = "\u2400"


class PostgresSupervisorStore(SQLSupervisorStore):
    """Made by `PostgresStore.supervisor_store()`; opens on first use and creates nothing."""

    def __init__(self, database: Database, clock: Clock, wakes: Wakes) -> None:
        self._own = SupervisorSession(database)
        super().__init__(self._own, clock, wakes)
        self._unknown: tuple[Commit, CommitUnknown] | None = None
        """The last commit, if its answer was lost."""
        self._untold: Untold | None = None

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        reports: Reports = NO_REPORTS,
        *,
        claim: ClaimRequest | None = None,
        skip_idle_check: bool = False,
    ) -> CommitResult:
        """As `SupervisorStore.commit`. What a commit has done whose answer was lost is told with the next one."""
        self._settle()
        untold = self._untold
        if untold is None or untold.owner != owner:
            return super().commit(owner, transitions, reports, claim=claim, skip_idle_check=skip_idle_check)
        left = untold.left_of(transitions)
        result = super().commit(
            owner, left, reports, claim=untold.claims(claim), skip_idle_check=skip_idle_check
        )
        result = untold.told(transitions, result)
        if not untold:
            self._untold = None
        return result

    def _settle(self) -> None:
        """Ask what came of a commit whose answer was lost, if there is one. Raises StoreBusy, StoreError."""
        if self._unknown is None:
            return
        commit, unknown = self._unknown
        was_committed = self._own.was_committed(unknown)
        self._unknown = None
        if was_committed:
            if self._untold is None or self._untold.owner != commit.owner:
                self._untold = Untold(commit.owner)
            result, _ = unknown.result
            self._untold.carried_out(commit.transitions, result)

    def _write_commit(self, commit: Commit, *, one_by_one: bool = False) -> CommitResult:
        try:
            return super()._write_commit(commit, one_by_one=one_by_one)
        except CommitUnknown as unknown:
            self._unknown = commit, unknown
            raise

    def _commit_in(
        self, connection: Connection, commit: Commit, *, one_by_one: bool
    ) -> tuple[CommitResult, bool]:
        if any("\0" in each.text for each in commit.reports.outputs):
            commit = commit._replace(reports=_without_nul(commit.reports))
        return committing.write(connection, commit, self._clock, WAYS, one_by_one=one_by_one)


def _without_nul(reports: Reports) -> Reports:
    """With U+2400, the picture of a NUL, in its place: PostgreSQL has no text with one."""
    outputs = [
        msgspec.structs.replace(each, text=each.text.replace("\0", _SHOWN_NUL)) for each in reports.outputs
    ]
    return reports._replace(outputs=outputs)
