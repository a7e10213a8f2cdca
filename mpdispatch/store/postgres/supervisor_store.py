"""The PostgreSQL store as a supervisor sees it: one connection, which waits for no lock longer than 50 ms.

A commit whose answer is lost raises, as one of which nothing was written. What came of it is asked before the next commit,
and then told with that one's result (see `store.lost_replies`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mpdispatch.clock import SECOND_US, Clock
from mpdispatch.errors import StoreBusy
from mpdispatch.model import ClaimRequest, NewSupervisor, Transition
from mpdispatch.store.lost_replies import UnreportedCommits
from mpdispatch.store.postgres import commit as plain
from mpdispatch.store.postgres.hot_path import HOT_PATH
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.session import CommitUnknown
from mpdispatch.store.postgres.sessions import SUPERVISOR_PATIENCE_S, SupervisorSession
from mpdispatch.store.sql import commit as committing
from mpdispatch.store.sql.commit import Commit
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.supervisor_store import SQLSupervisorStore
from mpdispatch.store.sql.wakes import Wakes
from mpdispatch.store.values import NO_REPORTS, CommitResult, Renewal, Reports

_SHOWN_NUL = "\u2400"
_CAREFUL_S = 1.0
_LEAST_PATIENCE_S = 0.5
_PARTS_OF_LEASE = 3
"""A server that is silent for this part of a lease is called on another connection, while the lease lasts."""


class _Unknown(NamedTuple):
    error: CommitUnknown
    transitions: Sequence[Transition]


class PostgresSupervisorStore(SQLSupervisorStore):
    """Made by `PostgresStore.supervisor_store()`; opens on first use and creates nothing."""

    _session: SupervisorSession

    def __init__(self, database: Database, clock: Clock, wakes: Wakes) -> None:
        super().__init__(SupervisorSession(database), clock, wakes)
        self._unreported = UnreportedCommits(0)
        self._unknown: _Unknown | None = None
        self._is_careful, self._careful_until_s = False, 0.0
        self._has_begun = False
        """Whether the plain commit has got the store's lock."""

    def _commit_in(
        self, connection: Connection, commit: Commit, *, one_by_one: bool
    ) -> tuple[CommitResult, bool]:
        if any("\0" in each.text for each in commit.reports.outputs):
            commit = commit._replace(reports=_without_nul(commit.reports))
        if not (one_by_one or self._is_careful) and plain.is_plain(commit):
            self._has_begun = True
            return plain.write(connection, commit, self._clock)
        return committing.write(connection, commit, self._clock, HOT_PATH, one_by_one=one_by_one)

    # -- the lease ------------------------------------------------------------------------------

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        self._follow(ttl_us)
        try:
            return super().register(who, ttl_us)
        except CommitUnknown as unknown:
            # Else a row that looks alive would be left, until its lease ends.
            if not self._session.was_committed(unknown):
                raise
            owner: int = unknown.result
            return owner

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        self._follow(ttl_us)
        self._settle()
        renewal = super().renew(owner, ttl_us)
        if self._unreported and self._unreported.owner == owner:
            # Its caller would give back what it does not know of, and be told of it with the next commit.
            return Renewal(owned=tuple(each for each in renewal.owned if each not in self._unreported.claimed))
        return renewal

    def _follow(self, ttl_us: int) -> None:
        patience_s = max(_LEAST_PATIENCE_S, ttl_us / SECOND_US / _PARTS_OF_LEASE)
        self._session.patience_s = min(SUPERVISOR_PATIENCE_S, patience_s)

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
        if self._unreported.owner != owner:
            # The jobs of another registration are not ours any more.
            self._unreported, self._unknown = UnreportedCommits(owner), None
        self._settle()
        unreported, left = self._unreported, transitions
        if unreported:
            left, claim, skip_idle_check = unreported.left_of(transitions), unreported.claims(claim), True
        try:
            result = super().commit(owner, left, reports, claim=claim, skip_idle_check=skip_idle_check)
        except CommitUnknown as error:
            self._unknown = _Unknown(error, left)
            raise
        return unreported.reported(transitions, result) if unreported else result

    def _write_commit(self, commit: Commit, *, one_by_one: bool = False) -> CommitResult:
        self._is_careful, self._has_begun = time.monotonic() < self._careful_until_s, False
        try:
            return super()._write_commit(commit, one_by_one=one_by_one)
        except plain.NotPlainError:
            self._is_careful = True
            return super()._write_commit(commit, one_by_one=one_by_one)
        except StoreBusy:
            if (
                self._has_begun
            ):  # so it is not the store's lock, but a row that is due: the other way leaves it out
                self._careful_until_s = time.monotonic() + _CAREFUL_S
            raise

    def _settle(self) -> None:
        """Learn what came of the last commit, if its answer was lost. Raises StoreError: nobody says so yet."""
        if self._unknown is None:
            return
        if self._session.was_committed(self._unknown.error):
            result, _ = self._unknown.error.result
            self._unreported.add(self._unknown.transitions, result)
            self._wakes.supervisors()
            self._wakes.waiting_clients()
        self._unknown = None


def _without_nul(reports: Reports) -> Reports:
    """With U+2400, the picture of a NUL, in its place: PostgreSQL has no text with one."""
    outputs = [
        msgspec.structs.replace(each, text=each.text.replace("\0", _SHOWN_NUL)) for each in reports.outputs
    ]
    return reports._replace(outputs=outputs)
