"""Checks of a store's rows that hold for every SQL store; each finding comes with a remedy. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mpdispatch.model import Finding, Level
from mpdispatch.store.sql import crons, lost_dependents
from mpdispatch.store.sql.connection import Connection

_NAMED = 5


def the_first(items: Sequence[str], separator: str = ", ") -> str:
    """Five of them at most, and how many more there are.

    >>> the_first(["1", "2", "3", "4", "5", "6", "7"])
    '1, 2, 3, 4, 5 and 2 more'
    """
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return separator.join(items[:_NAMED]) + more


def of_rows(connection: Connection) -> Iterator[Finding]:
    """Jobs that would wait for ever, and cron entries that cannot be read: other programs wrote them."""
    if found := lost_dependents.all_lost(connection):
        yield _lost(found)
    for entry in crons.entries(connection):
        if entry.unreadable:
            yield Finding(
                check="crons",
                level=Level.WARNING,
                message=f"cron entry {entry.spec.name!r} cannot be read, so it does not fire: {entry.unreadable}",
                remedy="one that an app or a file declares is mended when its supervisor starts; remove any other with"
                f" `mpdispatch cron remove`, or by hand (id {entry.id} of mpdispatch_crons), and add it anew",
            )


def _lost(job_ids: Iterable[int]) -> Finding:
    return Finding(
        check="rows",
        level=Level.WARNING,
        message="jobs that wait for others, none of which is left whose end would release them:"
        f" {the_first([str(each) for each in job_ids])}",
        remedy="another program has written to the store; a supervisor mends them when it is started",
    )
