"""User and groups of a worker process, and whether a job has changed them. Runs in the worker's main thread.

os.setuid, os.seteuid, setfsuid, os.setgroups … ▸ is_changed ▸ the worker goes back as far as it may, and is replaced
"""

from __future__ import annotations

import contextlib
import sys

# Bound here, because a job may replace these functions.
from os import getegid, geteuid, getgroups, setgroups
from typing import TypeAlias

from mpdispatch.host.processes import status_of

Ids: TypeAlias = tuple[int, ...]
_CAP_SETGID, _CAP_SETUID = 6, 7


_PR_GET_NO_NEW_PRIVS = 39


if sys.platform == "linux":
    import ctypes
    from os import getresgid, getresuid, setresgid, setresuid

    # PyDLL and not CDLL, which would release the GIL and let a thread of the job run.
    _libc = ctypes.PyDLL(None)
    _setfsuid, _setfsgid, _prctl = _libc.setfsuid, _libc.setfsgid, _libc.prctl

    def _ids() -> tuple[Ids, Ids]:
        # The fourth is the file-system id. With -1, which is no id, the call only returns it; no other call does.
        return (*getresuid(), _setfsuid(-1)), (*getresgid(), _setfsgid(-1))

    def _set_ids(users: Ids, groups: Ids) -> None:
        setresuid(*users[:3])
        setresgid(*groups[:3])
        _setfsgid(groups[3])
        _setfsuid(users[3])

    def _is_held_down() -> bool:
        zero = ctypes.c_ulong(0)
        return bool(_prctl(_PR_GET_NO_NEW_PRIVS, zero, zero, zero, zero) == 1)

else:
    from os import getgid, getuid, setregid, setreuid

    def _ids() -> tuple[Ids, Ids]:
        return (getuid(), geteuid()), (getgid(), getegid())

    def _set_ids(users: Ids, groups: Ids) -> None:
        setreuid(*users)
        setregid(*groups)

    def _is_held_down() -> bool:
        return False


class Identity:
    """User and groups as they were when this was made."""

    __slots__ = ("_group", "_groups", "_ids", "_is_held_down", "_user", "may_change")

    def __init__(self) -> None:
        self._ids, self._groups = _ids(), sorted(getgroups())
        self._user, self._group = geteuid(), getegid()
        self._is_held_down = _is_held_down()
        self.may_change = _may_change(self._ids)
        """Whether this process could change its user or groups at all."""

    def acts_as_other(self) -> bool:
        """Whether the effective user or group is another one. It can be only if `may_change`."""
        return geteuid() != self._user or getegid() != self._group

    def is_changed(self) -> bool:
        """Whether any of them has changed: real, effective, saved and file-system ids, and supplementary groups."""
        return self.may_change and (_ids() != self._ids or sorted(getgroups()) != self._groups)

    def is_held_down(self) -> bool:
        """Whether no_new_privs was set since. It cannot be unset."""
        return _is_held_down() and not self._is_held_down

    def go_back(self) -> str:
        """Be what it was again, as far as it may; says what it was meanwhile.

        That does not undo all: the kernel has forgotten that it is to die with its supervisor, and some capabilities.
        """
        users, groups = _ids()
        with contextlib.suppress(PermissionError):
            _set_ids(*self._ids)
            setgroups(self._groups)
        return f"users {users}, groups {groups}"


def _may_change(ids: tuple[Ids, Ids]) -> bool:
    """Whether this process could change its user or groups: it is root, has a second identity, or a capability."""
    users, groups = map(set, ids)
    if 0 in users or len(users) > 1 or len(groups) > 1:
        return True
    permitted = status_of("CapPrm")
    if permitted is None:
        return True  # in doubt yes: a look costs half a microsecond a job
    return bool(int(permitted, 16) & (1 << _CAP_SETGID | 1 << _CAP_SETUID))
