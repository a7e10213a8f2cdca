"""Opens files and folders beside a store and checks that only this user may write them. Ground: imports nothing.

In a world-writable folder (`/tmp`) another user may have created our folder first. Its content is trusted: the processes
of a dead supervisor, the holder of the lock, the token. So every open checks the owner on the open descriptor; a path
could lead elsewhere a moment later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

WRITABLE = stat.S_IWGRP | stat.S_IWOTH
"""Mode bits that must not be set: write permission for others."""


class NotPrivateError(PermissionError):
    """The file at `path` is not private: another user owns it or may write it, or it is a symbolic link.

    An OSError like other failures of opening a file; the store translates it to StorePermission. `why` and `remedy` are
    for people.
    """

    def __init__(self, path: str | Path, why: str, remedy: str) -> None:
        self.why, self.remedy = f"{path} {why}", remedy
        super().__init__(errno.EPERM, f"{why}; {remedy}", str(path))

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}"


def not_private(path: str | Path, found: os.stat_result, forbidden: int = WRITABLE) -> NotPrivateError | None:
    """The error for `found`, the stat of the file at `path`; None if it is private."""
    mine = os.geteuid()
    if stat.S_ISLNK(found.st_mode):
        return _link(path)
    if found.st_uid != mine:
        why = f"belongs to user {found.st_uid}, and this is user {mine}: what another may write there is not believed"
        remedy = (
            f"run mpdispatch as user {found.st_uid}; or, if that user has no business here, remove it (rm -r {path})"
            " and keep the store in a folder that others cannot write"
            if stat.S_ISDIR(found.st_mode)
            else f"remove it when nothing uses the store: rm {path}"
        )
        return NotPrivateError(path, why, remedy)
    if found.st_mode & forbidden:
        what = "written" if found.st_mode & WRITABLE else "read"
        wanted = "700" if stat.S_ISDIR(found.st_mode) else "600"
        return NotPrivateError(
            path, f"can be {what} by others ({stat.filemode(found.st_mode)})", f"chmod {wanted} {path}"
        )
    return None


def _link(path: str | Path) -> NotPrivateError:
    return NotPrivateError(path, "is a symbolic link, which is not followed", f"remove it: rm {path}")


def folder_beside(file: Path) -> Path:
    """The folder beside a store's file, for its lock and this machine's runtime files."""
    return Path(f"{file}-mpd")


def open_folder(path: Path, *, create: bool = False) -> int:
    """Open a private folder. Returns a descriptor. `create`: make it if it is missing.

    Raises NotPrivateError; OSError.
    """
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    try:
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and os.path.islink(path):
            raise _link(path) from error
        raise
    return _checked(found, path, WRITABLE)


def open_in(folder: int, path: Path, flags: int, *, forbidden: int = WRITABLE) -> int:
    """Open the file `path` by its name in the open `folder`, never through a symbolic link. Returns a descriptor.

    O_CREAT creates it with mode 0600. `forbidden`: bits that its mode must not have.

    Raises NotPrivateError; OSError.
    """
    try:
        found = os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from error
        raise
    return _checked(found, path, forbidden)


def open_private(path: Path, flags: int, *, forbidden: int = WRITABLE, create_folder: bool = False) -> int:
    """`open_in` in the folder of `path`, which must be private too."""
    folder = open_folder(path.parent, create=create_folder)
    try:
        return open_in(folder, path, flags, forbidden=forbidden)
    finally:
        os.close(folder)


def _checked(descriptor: int, path: Path, forbidden: int) -> int:
    if (problem := not_private(path, os.fstat(descriptor), forbidden)) is not None:
        os.close(descriptor)
        raise problem
    return descriptor
