"""What can be wrong with a store. Each error has `location`: the store as it is shown to people, without a password."""

from __future__ import annotations

import shlex
from typing import ClassVar

from mpdispatch.errors.base import DispatchError


class StoreError(DispatchError):
    """A store cannot be used, or not as asked. `location` names it as people see it; `detail` says more."""

    exit_code = 69
    _what: ClassVar[str] = "store error"

    def __init__(self, location: str, detail: str = "") -> None:
        self.location, self.detail = location, detail
        super().__init__(f"{location}: {detail or self._what}")


class StoreBusy(StoreError):
    """Another process held the store's write lock for longer than we were willing to wait."""

    _what = "another process holds the write lock"


class StoreUnreachable(StoreError):
    """The store's server does not answer, or was lost. It is asked again: servers are restarted, networks mended.

    A call that wrote was not carried out, unless `detail` says that this is unknown.
    """

    exit_code = 74
    _what = "the server cannot be reached"


class StoreMissing(StoreError):
    """There is no store here, and this command does not create one."""

    def __init__(self, location: str, detail: str = "") -> None:
        super().__init__(
            location,
            detail
            or f"no store here; `{_migrate(location)}` makes it, and so does the first enqueue that names it",
        )


class StoreNotShared(StoreError):
    """A `:memory:` store was used from another process; only the process that made it has it."""

    _what = "an in-memory store cannot be used from another process; use a file"


class StoreFull(StoreError):
    """The disk is full, or this user's quota is used up. Nothing of this call was kept."""

    exit_code = 74
    _what = "the disk is full, or a quota is used up; nothing was stored"


class StoreIOError(StoreError):
    """The disk reported an I/O error. Nothing of this call is acknowledged."""

    exit_code = 74
    _what = "disk I/O error"


class StoreVanished(StoreError):
    """The store's file was deleted or replaced while it was open."""

    exit_code = 74
    _what = "the file was deleted or replaced while in use; put it back, or start again with a new one"


class StorePermission(StoreError):
    """The file or its folder cannot be read or written by this user."""

    exit_code = 77
    _what = "permission denied"


class StoreCannotCreate(StoreError):
    """The file cannot be created here (no such folder, a read-only file system, a directory in its place)."""

    exit_code = 73
    _what = "cannot be created"


class StoreCorrupt(StoreError):
    """The file is damaged or is no SQLite database."""

    exit_code = 65
    _what = "the file is damaged or not an SQLite database"


class StoreForeign(StoreError):
    """The file is somebody else's database, and it was not opened as shared."""

    exit_code = 65
    _what = (
        "this database holds other tables and none of mpdispatch's; choose another file, or open it with shared=True "
        "(as a URL: sqlite:///PATH?shared=1) to keep ours beside them"
    )


class StoreNotUTF8(StoreError):
    """The database keeps its text as UTF-16. That was chosen when it was made and cannot be changed in place."""

    exit_code = 65

    def __init__(self, location: str, encoding: str) -> None:
        self.encoding = encoding
        super().__init__(
            location,
            f"its text is {encoding}, and mpdispatch needs a database in UTF-8; choose another file, or make a copy in"
            " UTF-8: sqlite3 OLD .dump | sqlite3 NEW",
        )


class StoreTooNew(StoreError):
    """The store was written by a newer mpdispatch."""

    exit_code = 78

    def __init__(self, location: str, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(
            location, f"its schema is version {found}, this mpdispatch knows {supported}; upgrade mpdispatch"
        )


class StoreTooOld(StoreError):
    """The store's schema must be migrated first, and this call does not migrate."""

    exit_code = 78

    def __init__(self, location: str, found: int, needed: int) -> None:
        self.found, self.needed = found, needed
        super().__init__(
            location, f"its schema is version {found}, version {needed} is needed; run `{_migrate(location)}`"
        )


class StoreMoved(StoreError):
    """The store was moved to another one, or is being moved or filled: nothing can be changed in it."""

    _what = "is moved to another store"


class LeaseLostError(DispatchError):
    """This supervisor's registration is gone: another one took its jobs over. It must not write."""

    exit_code = 74

    def __init__(self, owner: int) -> None:
        self.owner = owner
        super().__init__(f"supervisor {owner} lost its lease; its jobs belong to others now")


def _migrate(location: str) -> str:
    """The command for this store. Without its name the command would create or migrate another one."""
    return f"mpdispatch migrate --store {shlex.quote(location)}"
