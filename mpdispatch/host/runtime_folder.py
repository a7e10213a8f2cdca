"""The folder of a store on this machine: start journals, wake-ups, the supervising lock, the HTTP token. Effects.

- For a store in a file it lies beside that file and also holds the store's lock.
- For a store in memory it is temporary, belongs to this process, and is deleted with the store.
- For any other store it lies in /var/tmp, named after the location: every process of this user finds the same one.

The modules that write there create the folder and check that it is private to this user (see `private`).
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from mpdispatch.private import folder_beside


class LocatedStore(Protocol):
    """What the host needs to know about a store."""

    @property
    def location(self) -> str: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def file(self) -> Path | None: ...


_temporary: weakref.WeakKeyDictionary[LocatedStore, Path] = weakref.WeakKeyDictionary()


def runtime_folder(store: LocatedStore) -> Path:
    """Path of the folder, which may not exist yet. Raises OSError if there is no room for a temporary one."""
    if (file := store.file) is not None:
        return folder_beside(file)
    if store.is_shared:
        return _named_after(store.location)
    found = _temporary.get(store)
    # Two threads may make one each: both use the first, and the other is deleted with the store too.
    return found if found is not None else _temporary.setdefault(store, _made_for(store))


def leads_to(path: Path, descriptor: int) -> bool:
    """Whether the path leads to this open file: neither it nor its folder was removed or replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _made_for(store: LocatedStore) -> Path:
    import shutil  # with tempfile 1 MiB, which a store in a file does not need
    import tempfile

    folder = tempfile.mkdtemp(prefix="mpdispatch-")
    remove, mine = shutil.rmtree, os.getpid()

    def remove_if_ours() -> None:
        if os.getpid() == mine:  # a forked child must not delete its parent's folder
            remove(folder, ignore_errors=True)

    weakref.finalize(store, remove_if_ours)
    return Path(folder)


def _named_after(location: str) -> Path:
    import hashlib  # OpenSSL, which a store in a file does not need

    parts = urlsplit(location)
    # Without user and password: the store is the same, and every user can see names in /var/tmp.
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    name = f"mpdispatch-{os.geteuid()}-{hashlib.sha256(bare.encode()).hexdigest()[:16]}"
    return Path("/var/tmp") / name  # noqa: S108 - all processes are to find it, whatever their TMPDIR; never another's
