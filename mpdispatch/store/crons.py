"""What a store does for cron entries. It keeps them and carries out decisions; `policy.cron` makes them.

A job enqueued again (`retry`, `replay`) takes the place of the old one in its slot, which is open again. A job with an
open firing of an entry that may fire is not pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mpdispatch.model import (
    CronDecision,
    CronEntry,
    CronHistory,
    CronSync,
    Firing,
    Job,
    NewCron,
    Origin,
)


class CronDecisions(Protocol):
    """What a supervisor does. Each method is one transaction, or one consistent read."""

    def entries(self) -> list[CronEntry]:
        """All entries by name, with their open firings. Cheap without entries: supervisors call it at each poll.

        An entry whose row cannot be read is among them, disabled (`unreadable`).
        """
        ...

    def sync(self, origin: Origin, app: str, declared: Sequence[NewCron]) -> CronSync:
        """Make the entries of this origin and app those that are declared.

        Adds what is missing and brings specs up to date. An entry with another schedule, zone or window begins anew,
        with the `decided_until_us` given here; any other keeps its place. What is no longer declared becomes an orphan
        and fires no more; an orphan that is declared again begins anew. Whether an entry is enabled stays. An entry of
        the same origin but another app is taken in; one of another origin is left as it is (`taken`).
        """
        ...

    def decide(self, decision: CronDecision) -> list[Job] | None:
        """Fire, skip, cancel and close as decided, in one transaction with the jobs. Returns the jobs made.

        None, with nothing written: the entry has changed since (another supervisor, a person), so look again. A slot
        that has fired before makes no second job, whatever the clock did meanwhile. Skipped slots join those skipped
        last if the reason is the same and no slot has fired between them.
        """
        ...


class CronStore(CronDecisions, Protocol):
    """All that is done to cron entries. Each method is one transaction, or one consistent read."""

    def entry(self, name: str) -> CronEntry:
        """Raises CronNotFoundError."""
        ...

    def add(self, *new: NewCron) -> list[CronEntry]:
        """Add all of these, or none. Raises CronExistsError: there is an entry of that name."""
        ...

    def set_enabled(
        self, name: str, is_enabled: bool, *, decided_until_us: int, next_slot_us: int | None
    ) -> CronEntry:
        """Enable an entry, which then begins anew with `decided_until_us`, or disable it: then neither time counts.

        If it is enabled or disabled already, nothing changes. Raises CronNotFoundError.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete an entry with its history, at once for all who look; its jobs stay. Raises CronNotFoundError."""
        ...

    def fire(self, name: str, slots: Sequence[Firing]) -> list[Job]:
        """Fire these slots of an entry by hand, also of one that is disabled, without the slots that have fired.

        Raises CronNotFoundError, CronUnreadableError.
        """
        ...

    def history(self, name: str, limit: int) -> CronHistory:
        """The last `limit` fired slots and the last `limit` skips. Raises CronNotFoundError, UsageError (limit < 1)."""
        ...
