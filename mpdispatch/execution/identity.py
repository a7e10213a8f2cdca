"""Whose process a worker is, and whether a job has changed that. Runs in the worker's main thread.

os.setuid, os.seteuid, os.setgroups … ▸ is_changed ▸ the worker goes back as far as it may, and is replaced all the same
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TypeAlias

__all__ = ["Identity"]

Ids: TypeAlias = tuple[int, ...]
_CAP_SETGID, _CAP_SETUID = 6, 7


if sys.platform == "linux":

    def _ids() -> tuple[Ids, Ids]:
        return os.getresuid(), os.getresgid()

    def _set_ids(users: Ids, groups: Ids) -> None:
        os.setresuid(*users)
        os.setresgid(*groups)

else:

    def _ids() -> tuple[Ids, Ids]:
        return (os.getuid(), os.geteuid()), (os.getgid(), os.getegid())

    def _set_ids(users: Ids, groups: Ids) -> None:
        os.setreuid(*users)
        os.setregid(*groups)


class Identity:
    """User and groups as they were when this was made."""

    __slots__ = ("_group", "_groups", "_ids", "_user", "may_change")

    def __init__(self) -> None:
        self._ids, self._groups = _ids(), sorted(os.getgroups())
        self._user, self._group = os.geteuid(), os.getegid()
        self.may_change = _may_change(self._ids)
        """Whether it could become another's at all."""

    def acts_as_other(self) -> bool:
        """Whether its effective user or group is another. Costs nothing in a process that may not change them."""
        return self.may_change and (os.geteuid() != self._user or os.getegid() != self._group)

    def is_changed(self) -> bool:
        """Whether anything of it is another: also what it could go back to, and further groups."""
        return self.may_change and (_ids() != self._ids or sorted(os.getgroups()) != self._groups)

    def go_back(self) -> str:
        """Be what it was again, as far as it may; says what it was meanwhile.

        That does not undo all: the kernel has forgotten that it is to die with its supervisor, and some capabilities.
        """
        users, groups = _ids()
        with contextlib.suppress(PermissionError):
            _set_ids(*self._ids)
            os.setgroups(self._groups)
        return f"users {users}, groups {groups}"


def _may_change(ids: tuple[Ids, Ids]) -> bool:
    """Whether this process could become another's at all: it is root, has a second identity, or a capability."""
    users, groups = map(set, ids)
    if 0 in users or len(users) > 1 or len(groups) > 1:
        return True
    try:
        with open("/proc/self/status", "rb") as file:
            (permitted,) = (int(line.split()[1], 16) for line in file if line.startswith(b"CapPrm:"))
    except (OSError, ValueError):
        return True  # if in doubt: looking costs half a microsecond a job
    return bool(permitted & (1 << _CAP_SETGID | 1 << _CAP_SETUID))
