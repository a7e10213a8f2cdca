"""The folder of a store on this machine: start journals, wake-ups, the supervising lock, the HTTP token. Effects.

- A store in a file has it beside that file, where its own lock is too.
- A store in memory has a temporary one of this process, which goes with the store.
- Any other has one in /var/tmp, named after its location: every process of this user finds the same one.

Whoever puts something there makes it, and sees that it is this user's alone (see `private`).
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from mpdispatch.private import folder_beside

__all__ = ["LocatedStore", "runtime_folder"]


class LocatedStore(Protocol):
    """What this machine knows of a store."""

    @property
    def location(self) -> str: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def file(self) -> Path | None: ...


_temporary: weakref.WeakKeyDictionary[LocatedStore, Path] = weakref.WeakKeyDictionary()


def runtime_folder(store: LocatedStore) -> Path:
    """Where it is, or is to be made. Raises OSError: no room for a temporary one."""
    if (file := store.file) is not None:
        return folder_beside(file)
    if store.is_shared:
        return _named_after(store.location)
    found = _temporary.get(store)
    # Two threads may make one each; then both take the first, and the other goes with the store as well.
    return found if found is not None else _temporary.setdefault(store, _made_for(store))


def _made_for(store: LocatedStore) -> Path:
    import shutil  # a MiB, with tempfile, that a store in a file does not need
    import tempfile

    folder = tempfile.mkdtemp(prefix="mpdispatch-")
    remove, mine = shutil.rmtree, os.getpid()

    def remove_if_ours() -> None:
        if os.getpid() == mine:  # a forked child cleans up nothing of its parent's
            remove(folder, ignore_errors=True)

    weakref.finalize(store, remove_if_ours)
    return Path(folder)


def _named_after(location: str) -> Path:
    import hashlib  # OpenSSL, which a store in a file does not need

    parts = urlsplit(location)
    # Without user and password: it is the same store, and a name in /var/tmp is for everybody to see.
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    name = f"mpdispatch-{os.geteuid()}-{hashlib.sha256(bare.encode()).hexdigest()[:16]}"
    return Path("/var/tmp") / name  # noqa: S108 - all processes are to find it, whatever their TMPDIR; never another's
