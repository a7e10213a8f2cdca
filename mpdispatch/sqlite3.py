"""Selects the copy of SQLite for this process, once. Ground: imports nothing of ours.

It is pysqlite3 (the `sqlite` extra) if installed, else the standard library's module. All our modules use it: two
copies of SQLite on one file in one process corrupt the file, because closing a descriptor in one copy drops the
POSIX locks of the other. Only a store on a file that the application itself has open uses the application's copy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING


def _installed() -> dict[str, ModuleType]:
    found = {}
    for name, place in (("pysqlite3", "pysqlite3.dbapi2"), ("sqlite3", "sqlite3")):
        try:
            found[name] = importlib.import_module(place)
        except ImportError:
            continue
    return found


COPIES: Mapping[str, ModuleType] = _installed()
"""The importable copies of SQLite, by package; ours comes first."""

if TYPE_CHECKING:
    import sqlite3

    module = sqlite3
else:
    module = next(iter(COPIES.values()))

Connection = module.Connection
Cursor = module.Cursor
Error = module.Error
connect = module.connect

ERRORS: tuple[type[module.Error], ...] = tuple(copy.Error for copy in COPIES.values())
"""The base errors of all copies."""


def copy_of(connection: object) -> str | None:
    """The package of this connection's copy of SQLite; None if it is not in `COPIES`.

    >>> copy_of(COPIES["sqlite3"].connect(":memory:"))
    'sqlite3'
    """
    for kind in type(connection).__mro__:
        package = kind.__module__.partition(".")[0]
        if kind.__name__ == "Connection" and package in COPIES:
            return package
    return None


version_info: tuple[int, int, int] = module.sqlite_version_info
"""Version of the SQLite library, not of the Python module."""


def has_wal_reset_bug(version: tuple[int, int, int] = version_info) -> bool:
    """Whether a checkpoint racing a commit of another process can corrupt a WAL database in this SQLite.

    Affects 3.7.0 to 3.51.2 without the backports. Our own processes exclude each other by a lock file.

    >>> has_wal_reset_bug((3, 40, 1)), has_wal_reset_bug((3, 51, 3)), has_wal_reset_bug((3, 50, 7))
    (True, False, False)
    """
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    return (3, 7, 0) <= version < (3, 51, 3)
