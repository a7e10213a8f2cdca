"""A copy of a store's file, made while others use it. Effects: files beside the destination, until it gets its name.

    read transaction ─▶ backup API, 1 MiB at a time ─▶ fenced, checked ─▶ synced ─▶ the name

The read transaction keeps one moment of the store: without it, SQLite would begin anew with every commit of another
process. Meanwhile the log grows, as it does for any reader that takes long.

Nobody of the store's present may write to the copy when it is put in the store's place: no supervisor is registered in
it, and the id of the next one is a random number higher than any given so far. So a supervisor that still lives finds
that its registration is gone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mpdispatch import sqlite3
from mpdispatch.errors import (
    StoreCannotCreate,
    StoreCorrupt,
    UsageError,
)
from mpdispatch.failpoints import failpoint
from mpdispatch.fstext import percent_encoded
from mpdispatch.store.sqlite.connection import Session
from mpdispatch.store.sqlite.database import CLIENT_PATIENCE_S, Database, FileDatabase
from mpdispatch.store.sqlite.queries import QUERIES
from mpdispatch.store.sqlite.room import BY_ERRNO, diagnosed
from mpdispatch.store.values import Backup

_PAGES = 256
"""Pages per step, 1 MiB; an interrupt is heard between two steps."""
_OWNERS = 1 << 40
_BESIDE = ("", "-wal", "-shm", "-journal")
_OF_THE_SOURCE = (
    "SQLITE_IOERR_READ",
    "SQLITE_IOERR_SHORT_READ",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_CORRUPT",
)


def backup(database: Database, destination: str | os.PathLike[str]) -> Backup:
    """Copy the store to a new file, while others use it. Raises UsageError, StoreError."""
    path = os.fspath(destination)
    if not isinstance(path, str) or not path or "\0" in path:
        raise UsageError(f"destination: must be text that names a file, not {path!r}")
    if not isinstance(database, FileDatabase):
        raise UsageError(f"{database.location} has no file to copy")
    # A connection of its own: this thread may go on in a hook or a signal handler.
    session = database.open(patience_s=CLIENT_PATIENCE_S, create=False)
    try:
        with session.use:
            return _backup(session, Path(os.path.abspath(path)))
    finally:
        database.close(session)


def _backup(session: Session, destination: Path) -> Backup:
    """Copy the session's database to a path that does not exist. The session is in use until then.

    Raises StoreCannotCreate, StorePermission, StoreFull, StoreIOError: about the destination, of which nothing is left;
    StoreError: about the store.
    """
    _refuse_taken(destination, session)
    with _temporary(destination) as path:
        with _blaming(destination, path), closing(_connect(session, path)) as target:
            # The file is deleted on any failure, so it needs no journal; it is synced as a whole.
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            _copy(session, target)
        failpoint("backup.copied")
        with _blaming(destination, path), closing(_connect(session, path)) as copy:
            jobs = _fenced_and_checked(copy, destination)
        with _blaming(destination, path):
            _sync(path)
            size = path.stat().st_size
            _publish(path, destination)
    return Backup(path=destination, bytes=size, jobs=jobs)


def _refuse_taken(destination: Path, session: Session) -> None:
    try:
        destination.lstat()
    except FileNotFoundError:
        if not destination.parent.is_dir():
            detail = f"cannot be created: there is no folder {destination.parent}"
            raise StoreCannotCreate(str(destination), detail) from None
        return
    except OSError as error:
        kind = BY_ERRNO.get(error.errno or 0, StoreCannotCreate)
        raise kind(str(destination), f"cannot be reached: {error.strerror}") from error
    if session.path is not None and destination.exists() and destination.samefile(session.path):
        detail = "is the store itself; name another file for the copy"
    elif destination.is_dir():
        detail = f"is a folder; name a file in it, such as {destination / 'jobs.db'}"
    else:
        detail = "is there already, and a backup replaces nothing; name another file, or remove this one"
    raise StoreCannotCreate(str(destination), detail)


@contextmanager
def _temporary(destination: Path) -> Iterator[Path]:
    """An empty private file beside the destination; it is gone afterwards, unless it got another name."""
    path = destination.with_name(f".mpdispatch-backup-{secrets.token_hex(8)}")
    try:
        # Within the `try`: a signal may end this at any moment.
        with _blaming(destination, path):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        yield path
    finally:
        for each in (f"{path}{suffix}" for suffix in _BESIDE):
            # A file system that cannot be written to refuses also to delete what is not there.
            if os.path.lexists(each):
                os.unlink(each)


@contextmanager
def _blaming(destination: Path, path: Path) -> Iterator[None]:
    """Inside it, an error of the temporary file becomes one of the destination."""
    try:
        yield
    except OSError as error:
        kind = BY_ERRNO.get(error.errno or 0, StoreCannotCreate)
        raise kind(
            str(destination), f"the copy cannot be written: {error.strerror}; nothing is left of it"
        ) from error
    except sqlite3.ERRORS as error:
        raise diagnosed(error, str(destination), path) from error


def _connect(session: Session, path: Path) -> sqlite3.Connection:
    """A connection of the same copy of SQLite as the session's."""
    return type(session.connection)(
        f"file:{percent_encoded(str(path))}?mode=rw", uri=True, isolation_level=None
    )


def _copy(session: Session, target: sqlite3.Connection) -> None:
    source = session.connection
    try:
        # A statement that has not read all its rows keeps the connection in its read transaction.
        with closing(source.execute("SELECT name FROM sqlite_master")) as unfinished:
            unfinished.fetchone()
            source.backup(target, pages=_PAGES, progress=lambda *_: failpoint("backup.step"))
    except sqlite3.ERRORS as error:
        name = getattr(error, "sqlite_errorname", None) or ""
        if name.startswith(_OF_THE_SOURCE):
            raise diagnosed(error, session.location, session.path) from error
        raise


def _fenced_and_checked(copy: sqlite3.Connection, destination: Path) -> int:
    """Number of jobs in the copy. Raises StoreCorrupt."""
    # So that its log needs no shared memory: nobody else opens it.
    copy.execute("PRAGMA locking_mode = EXCLUSIVE")
    copy.execute("BEGIN IMMEDIATE")
    copy.execute(QUERIES["forget_supervisors"])
    copy.execute(QUERIES["raise_owners"], (1 + secrets.randbelow(_OWNERS),))
    copy.execute("COMMIT")
    problem = str(copy.execute("PRAGMA quick_check(1)").fetchone()[0])
    if problem != "ok" and not problem.startswith("CHECK constraint failed in mpdispatch_"):
        raise StoreCorrupt(
            str(destination), f"the copy is damaged, as the store may be (mpdispatch doctor): {problem}"
        )
    jobs = int(copy.execute("SELECT count(*) FROM mpdispatch_jobs").fetchone()[0])
    copy.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return jobs


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(path: Path, destination: Path) -> None:
    """Give the file its name, which must be free still."""
    try:
        os.link(path, destination)
    except FileExistsError:
        raise StoreCannotCreate(str(destination), "was made by another program meanwhile") from None
    except OSError:  # a file system without hard links
        if os.path.lexists(destination):
            raise StoreCannotCreate(str(destination), "was made by another program meanwhile") from None
        os.rename(path, destination)
    else:
        os.unlink(path)
    folder = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
