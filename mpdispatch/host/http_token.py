"""The store's HTTP token: random, made once, in a file of its runtime folder that only its owner may read. Effects.

Whoever can read that file can read the store too, so the token proves the access that a mounted API asks for.
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

_NAME = "http-token"
_RANDOM_BYTES = 32
_CONTENT = re.compile(rb"([A-Za-z0-9_-]{43})\n")
_FOR_OTHERS = 0o077

_BY_ERRNO: dict[int, type[StoreError]] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), StorePermission),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), StoreFull),
}


class CheckedStore(LocatedStore, Protocol):
    """A store that can check whether it exists."""

    @property
    def display(self) -> str: ...

    def check(self) -> None: ...


class HttpToken:
    """Made on first use if the file does not exist. Safe in any thread and process: all get the same token.

    A token once read is remembered, whatever happens to the file.
    """

    def __init__(self, store: CheckedStore) -> None:
        self._store = store
        self.remembered: str | None = None
        self._identity: tuple[int, int] | None = None
        """Inode and modification time (ns) of the file that the token was read from."""

    @property
    def path(self) -> Path:
        return runtime_folder(self._store) / _NAME

    def value(self) -> str:
        """The token. Blocks on the disk the first time.

        Raises StoreError: the store does not exist, or the file is not private, or cannot be read or made.
        """
        if self.remembered is None:
            try:
                self.remembered = self._read() or self._make()
            except OSError as error:
                raise self._problem(error) from error
        return self.remembered

    def is_current(self) -> bool:
        """True if the file is unchanged since it was read, or gone. Costs a `stat`."""
        try:
            return _identity_of(os.stat(self.path, follow_symlinks=False)) == self._identity
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def read_again(self) -> str:
        """Read the token again, as the file may have been removed and remade. If it is gone, returns the old token.

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
        import secrets  # loads OpenSSL, which workers do not need

        self._store.check()  # Make no folder beside a store that does not exist.
        path = self.path
        while True:
            descriptor = open_private(path, os.O_RDWR | os.O_CREAT, forbidden=_FOR_OTHERS, create_folder=True)
            try:
                # One of several concurrent processes makes the token; the others wait for it and read it.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if found := _content(descriptor):
                    return found
                if not os.fstat(descriptor).st_nlink:
                    continue  # The file was removed meanwhile: nobody would read our token.
                made = secrets.token_urlsafe(_RANDOM_BYTES)
                # A kill in between is harmless: an empty or partial token does not match `_CONTENT`.
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
