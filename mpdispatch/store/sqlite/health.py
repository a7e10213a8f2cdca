"""Checks of a store's file and its SQLite library; each finding comes with a remedy. Reads only."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.model import Finding, Level
from mpdispatch.private import not_private
from mpdispatch.store.sql import findings
from mpdispatch.store.sql.findings import the_first
from mpdispatch.store.sqlite import shrink, unreadable
from mpdispatch.store.sqlite.connect import filesystem_of
from mpdispatch.store.sqlite.database import Database, FileDatabase
from mpdispatch.store.sqlite.wal import CHECKPOINT_BYTES

_MIB = 1 << 20
_LARGE_WAL_BYTES = 8 * CHECKPOINT_BYTES
_LITTLE_ROOM_BYTES = 256 * _MIB
_NEVER_GIVEN = 1 << 62
"""Our ids stay below this, even at one per microsecond since 1970."""
_PROBLEMS = 100
_BY_HAND = "CHECK constraint failed in mpdispatch_"
_FLEETING = {"tmpfs", "ramfs"}
_COPY_ON_WRITE = {"btrfs", "zfs", "bcachefs", "overlay"}
"""An overlay may lie on one of the others, which is not visible from inside."""


def of_store(
    database: Database, read: Callable[[Callable[[sqlite3.Connection], list[Finding]]], list[Finding]]
) -> list[Finding]:
    """All of it: the library, the file and its content."""
    content = read(lambda c: list(of_content(c)))
    if not isinstance(database, FileDatabase):
        return content
    return [
        *of_library(is_shared=database.is_shared),
        *of_file(database.path, database.options.durability or "full"),
        *of_side_folder(database.side_dir),
        *([] if database.is_shared else read(lambda c: list(of_free_pages(c)))),
        *content,
    ]


def of_library(*, is_shared: bool) -> Iterator[Finding]:
    """Check the SQLite library. `is_shared`: other programs write the file too."""
    version = sqlite3.module.sqlite_version
    if not sqlite3.has_wal_reset_bug():
        yield Finding(check="sqlite", level=Level.OK, message=f"SQLite {version}")
        return
    yield Finding(
        check="sqlite",
        level=Level.WARNING if is_shared else Level.NOTE,
        message=f"SQLite {version} can corrupt a WAL database when a checkpoint meets a commit of another process; "
        "processes of mpdispatch exclude each other by a lock file, other programs that write this file do not",
        remedy="pip install 'mpdispatch[sqlite]', and let nothing else write the file with SQLite before 3.51.3",
    )


def of_free_pages(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Find a file of our own that cannot be made smaller while it is in use."""
    free, _, is_incremental = shrink.pages(connection)
    if not is_incremental:
        size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        yield Finding(
            check="size",
            level=Level.NOTE,
            message="the file was made by an earlier version, and does not become smaller where pruning makes room;"
            f" {free * size / _MIB:.1f} MiB of it hold nothing",
            remedy="with no supervisor running: mpdispatch prune --compact",
        )


def of_content(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Check the file by letting SQLite read every page."""
    problems = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_PROBLEMS})")]
    # A row that breaks our constraint was written by hand: the file is sound, and `_rows` reports such rows.
    damage = [each for each in problems if each != "ok" and not each.startswith(_BY_HAND)]
    if damage:
        yield Finding(
            check="content",
            level=Level.ERROR,
            message="the file is damaged: " + "; ".join(damage[:5]),
            remedy="stop all supervisors, keep a copy of the file and its -wal, and restore a backup"
            " (or try `sqlite3 FILE .recover`)",
        )
        return
    yield Finding(check="content", level=Level.OK, message="quick_check finds nothing wrong")
    yield from _ids(connection)
    yield from _rows(connection)
    yield from findings.of_rows(connection)


def _ids(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Find ids written by hand that are so high that few can follow."""
    highest = connection.execute("SELECT id FROM mpdispatch_last_id").fetchone()[0]
    if highest >= _NEVER_GIVEN:
        yield Finding(
            check="ids",
            level=Level.ERROR,
            message=f"the highest job id is {highest}: few or none are left, and nothing can be enqueued then",
            remedy=f"delete by hand every row of mpdispatch_jobs with an id from {_NEVER_GIVEN} on (if there is none: the"
            " row 'pruned_up_to' of mpdispatch_meta)",
        )
    for table in ("mpdispatch_dead_letters", "mpdispatch_supervisors", "mpdispatch_crons"):
        found = connection.execute(
            f"SELECT max(coalesce((SELECT max(id) FROM {table}), 0),"  # noqa: S608 - names of our own
            " coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0))",
            (table,),
        ).fetchone()[0]
        if type(found) is not int or found >= _NEVER_GIVEN:  # anything may stand in sqlite_sequence
            yield Finding(
                check="ids",
                level=Level.NOTE,
                message=f"somebody has given a row of {table} the id {found}: new ones come before it",
                remedy="nothing need be done",
            )


def _rows(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Find unreadable rows, written by other programs."""
    found = list(unreadable.examined(connection))
    waiting = [each for each in found if not each.has_ended]
    if waiting:
        yield Finding(
            check="rows",
            level=Level.WARNING,
            message=f"jobs whose rows cannot be read: {_faults(waiting)}",
            remedy="a supervisor that polls their queue ends those it meets as failed, with a dead letter; "
            "mpdispatch cancel ID ends any other",
        )
    if len(found) > len(waiting):
        ended = [each for each in found if each.has_ended]
        yield Finding(
            check="rows",
            level=Level.NOTE,
            message=f"jobs that have ended, and whose rows cannot be read (any more): {_faults(ended)}",
            remedy="they are kept as they are; mpdispatch dlq purge and mpdispatch prune take them away",
        )


def _faults(rows: Sequence[unreadable.Found]) -> str:
    return the_first([f"job {each.id}: {each.fault}" for each in rows], "; ")


def of_file(path: Path, durability: str) -> Iterator[Finding]:
    """Check the file's place, its permissions and the size of its log."""
    yield _filesystem(path)
    yield from _copy_on_write(path)
    yield from _permissions(path)
    yield _log(path)
    yield _room(path)
    if durability != "full":
        yield Finding(
            check="durability",
            level=Level.NOTE,
            message="durability is 'process': power loss may cost the last moments of what was enqueued",
            remedy="open the store with durability='full', the default, if that matters",
        )


def _filesystem(path: Path) -> Finding:
    kind = filesystem_of(path)
    if kind in _FLEETING:
        return Finding(
            check="filesystem",
            level=Level.WARNING,
            message=f"{path} is on {kind}: it is gone with the next boot",
            remedy="move the store to a disk",
        )
    if kind == "overlay":
        return Finding(
            check="filesystem",
            level=Level.NOTE,
            message=f"{path} is in a container's own layer (overlay): it is gone with the container",
            remedy="keep the store in a volume, if it is to outlive the container",
        )
    return Finding(check="filesystem", level=Level.OK, message=f"{path} is on {kind or 'a local disk'}")


def _copy_on_write(path: Path) -> Iterator[Finding]:
    kind = filesystem_of(path)
    if kind in _COPY_ON_WRITE:
        yield Finding(
            check="shared memory",
            level=Level.NOTE,
            message=f"on {kind} a write takes new blocks, so when the disk is full SQLite's shared memory ({path}-shm)"
            " cannot be written: whoever uses the store may then be ended by SIGBUS, and nothing committed is lost",
            remedy="never let that disk run full, or keep the store on ext4 or xfs",
        )


def _permissions(path: Path) -> Iterator[Finding]:
    found = path.stat()
    mode = stat.filemode(found.st_mode)
    if found.st_mode & 0o077:
        who = "write" if found.st_mode & 0o022 else "read"
        yield Finding(
            check="permissions",
            level=Level.WARNING,
            message=f"others may {who} the file ({mode}): it holds the arguments of all jobs",
            remedy=f"chmod 600 {path}",
        )
    else:
        yield Finding(check="permissions", level=Level.OK, message=f"only its owner may read it ({mode})")
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        yield Finding(
            check="permissions",
            level=Level.WARNING,
            message=f"everybody may replace files in {path.parent} ({stat.filemode(folder.st_mode)})",
            remedy=f"chmod o-w {path.parent}",
        )
    if found.st_uid != os.geteuid():
        yield Finding(
            check="permissions",
            level=Level.NOTE,
            message=f"the file belongs to user {found.st_uid}, you are user {os.geteuid()}",
            remedy="run mpdispatch as one user, or files beside the store become unwritable for the other",
        )


def of_side_folder(folder: Path) -> Iterator[Finding]:
    """Check that the folder and its files are private: otherwise supervisors and enqueues are refused."""
    for path in [folder, *_inside(folder)]:
        try:
            problem = not_private(path, path.lstat())
        except OSError:
            continue  # not there yet, or just removed
        if problem is not None:
            yield Finding(check="permissions", level=Level.ERROR, message=problem.why, remedy=problem.remedy)


def _inside(folder: Path) -> list[Path]:
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except OSError:
        return []  # not there, or not readable


def _log(path: Path) -> Finding:
    try:
        size = os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        size = 0
    text = f"the write-ahead log is {size / _MIB:.1f} MiB"
    if size < _LARGE_WAL_BYTES:
        return Finding(check="wal", level=Level.OK, message=text)
    return Finding(
        check="wal",
        level=Level.WARNING,
        message=f"{text}: something reads without a pause, so it cannot start over",
        remedy=f"find who has it open (lsof {path}-wal) and end what has been reading for long",
    )


def _room(path: Path) -> Finding:
    found = os.statvfs(path.parent)
    free = found.f_bavail * found.f_frsize
    if free >= _LITTLE_ROOM_BYTES:
        return Finding(check="disk", level=Level.OK, message=f"{free / _MIB:,.0f} MiB are free")
    return Finding(
        check="disk",
        level=Level.WARNING,
        message=f"only {free / _MIB:,.0f} MiB are free on the store's disk; when it is full nothing can be enqueued",
        remedy="make room, or purge what is not needed any more",
    )
