"""What a store does for cron entries. It keeps them and carries out decisions; `policy.cron` makes them."""

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


class CronStore(Protocol):
    """Each method is one transaction, or one consistent read. Part of a `Store` it waits; of a `SupervisorStore`, never."""

    def entries(self) -> list[CronEntry]:
        """All entries by name, with their open firings. Cheap without entries: supervisors call it at each poll."""
        ...

    def entry(self, name: str) -> CronEntry:
        """Raises CronNotFoundError."""
        ...

    def add(self, new: NewCron) -> CronEntry:
        """Raises CronExistsError: there is an entry of that name."""
        ...

    def sync(self, origin: Origin, app: str, declared: Sequence[NewCron]) -> CronSync:
        """Make the entries of this origin and app those that are declared.

        Adds what is missing and brings specs up to date; an entry whose spec is new begins with its
        `decided_until_us`, another one keeps its place. What is no longer declared becomes an orphan; what is declared
        again is none any more. Whether an entry is enabled stays. An entry of the same origin but another app is
        taken in; one of another origin is left as it is (`taken`).
        """
        ...

    def set_enabled(
        self, name: str, is_enabled: bool, *, decided_until_us: int, next_slot_us: int | None
    ) -> CronEntry:
        """Enable (slots up to `decided_until_us` are then none of its) or disable an entry. Raises CronNotFoundError."""
        ...

    def delete(self, name: str) -> None:
        """Delete an entry with its history; its jobs stay. Raises CronNotFoundError."""
        ...

    def decide(self, decision: CronDecision) -> list[Job] | None:
        """Fire, skip, cancel and close as decided, in one transaction with the jobs. Returns the jobs made.

        None, with nothing written: the entry has changed since (another supervisor, a person), so look again. A slot
        that has fired before makes no second job, whatever the clock did meanwhile.
        """
        ...

    def fire(self, name: str, slots: Sequence[Firing]) -> list[Job]:
        """Fire these slots of an entry by hand, without the slots that have fired. Raises CronNotFoundError."""
        ...

    def history(self, name: str, limit: int) -> CronHistory:
        """The last `limit` fired slots and the last `limit` skips. Raises CronNotFoundError."""
        ...
