"""Gives free pages of a store's own file back to the disk. Effects: the file.

A new file has `auto_vacuum = INCREMENTAL`: SQLite moves its last pages into free ones, as many at a time as we like. A
file of an earlier version cannot do that; it is rewritten as a whole (VACUUM), which makes it one that can. That keeps
the write lock for some 5 ms per MiB that is in use, so a supervisor only does it to a file that is nearly empty.

What the pages' map costs (SQLite 3.40): a drain of no-op jobs 0.5 us of CPU time per job, 2 % of all; an enqueue
nothing that can be measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mpdispatch import sqlite3
from mpdispatch.clock import sleep
from mpdispatch.errors import StoreError, UsageError
from mpdispatch.store.sql.sessions import Flush
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.database import Database, FileDatabase

_BUDGET_S = 0.003
_PAUSE_S = 0.005
_SPARE_PAGES = 256
"""Free pages that stay, 1 MiB: the next jobs need them."""
_REWRITE_PAGES = 2048
"""A file with at most this many pages in use (8 MiB) is rewritten, in some 50 ms."""
_INCREMENTAL = 2


def step(session: Session) -> bool:
    """One step of a few ms; whether there is more to give back. Only for a file that is not shared with an application.

    Keeps some free pages, since a store that is in use fills them again.
    """
    free, used, is_incremental = session.read(pages)
    if free <= max(_SPARE_PAGES, used // 4):
        return False
    if is_incremental:
        session.write(_give_back, point="shrink", checkpoint=False, flush=Flush.LATER)
        return True
    if used <= _REWRITE_PAGES:
        rewrite(session)
    return False


def rewrite(session: Session) -> None:
    """Write the whole file anew, without free pages. Nobody can write meanwhile."""
    session.write(_rewrite, point="rewrite", checkpoint=False, is_one_statement=True)


def give_back(database: Database, session: Callable[[], Session]) -> None:
    """Give free pages back to the disk, in steps between which others write; cut the file and its log."""
    if not isinstance(database, FileDatabase) or database.is_shared:
        return
    while step(session()):
        sleep(_PAUSE_S)
    session().checkpoint(truncate=True)


def compact(database: Database, session: Session) -> tuple[int, int]:
    """Write the file anew. Returns its size before and after, in bytes. Raises UsageError, StoreError."""
    if not isinstance(database, FileDatabase):
        raise UsageError(f"{database.location} has no file to compact")
    if database.is_shared:
        text = "is your application's own database: compact it with its own tools, for example VACUUM"
        raise StoreError(database.location, text)
    session.checkpoint(truncate=True)
    before = database.path.stat().st_size
    rewrite(session)
    session.checkpoint(truncate=True)
    return before, database.path.stat().st_size


def pages(connection: sqlite3.Connection) -> tuple[int, int, bool]:
    """(free pages, pages in use, whether free ones can be given back one by one)."""
    # The mode comes last: a connection learns of another one's rewrite when it reads the file.
    free, total, mode = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("freelist_count", "page_count", "auto_vacuum")
    )
    return free, total - free, mode == _INCREMENTAL


def _give_back(connection: sqlite3.Connection) -> None:
    free, used, _ = pages(connection)
    left = free - max(_SPARE_PAGES, used // 4)
    until = time.monotonic() + _BUDGET_S
    while left > 0 and time.monotonic() < until:
        # One page: Python ends a statement without columns after its first step, which is one page.
        connection.execute("PRAGMA incremental_vacuum(1)").close()
        left -= 1


def _rewrite(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    # The copy is kept in memory: another disk may be full, or fail.
    connection.execute("PRAGMA temp_store = MEMORY")
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store = DEFAULT")
