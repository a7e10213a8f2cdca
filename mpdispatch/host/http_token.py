"""The store's own HTTP token: random, made once, in a file of its runtime folder that only its owner may read. Effects.

Whoever may read that file may read the store as well, so it proves just what a mounted API wants to know.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Protocol

from mpdispatch.errors import StoreError, StoreFull, StoreIOError, StorePermission
from mpdispatch.host.runtime_folder import LocatedStore, runtime_folder
from mpdispatch.private import NotPrivateError, open_private

__all__ = ["HttpToken"]

_NAME = "http-token"
_RANDOM_BYTES = 32
_CONTENT = re.compile(rb"([A-Za-z0-9_-]{43})\n")
_FOR_OTHERS = 0o077

_BY_ERRNO: dict[int, type[StoreError]] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), StorePermission),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), StoreFull),
}


class CheckedStore(LocatedStore, Protocol):
    """A store that can be asked whether it is there."""

    @property
    def display(self) -> str: ...

    def check(self) -> None: ...


class HttpToken:
    """Made if there is none, when it is first asked for. Safe from any thread and process: all get the same.

    What was read once is remembered, whatever becomes of the file.
    """

    def __init__(self, store: CheckedStore) -> None:
        self._store = store
        self.remembered: str | None = None
        self._identity: tuple[int, int] | None = None
        """Of the file it was read from: inode and time of the last change (ns)."""

    @property
    def path(self) -> Path:
        """The file."""
        return runtime_folder(self._store) / _NAME

    def value(self) -> str:
        """The token. Blocks on the disk the first time.

        Raises:
            StoreError: there is no store; or the file is not ours alone, or cannot be read or made.
        """
        if self.remembered is None:
            try:
                self.remembered = self._read() or self._make()
            except OSError as error:
                raise self._problem(error) from error
        return self.remembered

    def is_current(self) -> bool:
        """Whether the file is still the one that was read, or gone. Costs a `stat`."""
        try:
            return _identity_of(os.stat(self.path, follow_symlinks=False)) == self._identity
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def read_again(self) -> str:
        """The token, read anew: somebody may have removed the file, and another was made. If it is gone, as before.

        Raises StoreError, as `value`.
        """
        try:
            self.remembered = self._read() or self.remembered
        except OSError as error:
            raise self._problem(error) from error
        return self.value()

    def _read(self) -> str | None:
        try:
            descriptor = open_private(self.path, os.O_RDONLY, forbidden=_FOR_OTHERS)
        except FileNotFoundError:
            return None
        try:
            self._identity = _identity_of(os.fstat(descriptor))
            return _content(descriptor)
        finally:
            os.close(descriptor)

    def _make(self) -> str:
        import secrets  # OpenSSL, which no worker needs that imports the app

        self._store.check()  # No folder is made beside a store that is not there.
        path = self.path
        while True:
            descriptor = open_private(path, os.O_RDWR | os.O_CREAT, forbidden=_FOR_OTHERS, create_folder=True)
            try:
                # Of those that start at once one makes it; the others wait for that, and read.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if found := _content(descriptor):
                    return found
                if not os.fstat(descriptor).st_nlink:
                    continue  # removed meanwhile: what we wrote nobody would ever read
                made = secrets.token_urlsafe(_RANDOM_BYTES)
                # Neither an empty file nor half a token is one: a kill in between costs nothing.
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{made}\n".encode(), 0)
                os.fsync(descriptor)
                return made
            finally:
                self._identity = _identity_of(os.fstat(descriptor))
                os.close(descriptor)

    def _problem(self, error: OSError) -> StoreError:
        kind = _BY_ERRNO.get(error.errno or 0, StoreIOError)
        text = (
            str(error) if isinstance(error, NotPrivateError) else f"{error.filename or _NAME}: {error.strerror}"
        )
        return kind(self._store.display, f"its HTTP token cannot be had: {text}")


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_mtime_ns


def _content(descriptor: int) -> str | None:
    found = _CONTENT.fullmatch(os.pread(descriptor, 64, 0))
    return None if found is None else found[1].decode()
