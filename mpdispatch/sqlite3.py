"""Which SQLite this process uses, decided once. Ground: imports nothing of ours.

pysqlite3 (the `sqlite` extra) if it is installed, the standard library's module otherwise. Everything
of ours goes through here: two copies of SQLite on one file in one process corrupt it, because closing
a descriptor in one copy drops the POSIX locks of the other. Only a store on a file the application has open
itself uses another copy: the application's.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = [
    "COPIES",
    "ERRORS",
    "Connection",
    "Cursor",
    "Error",
    "connect",
    "copy_of",
    "has_wal_reset_bug",
    "module",
    "version_info",
]


def _installed() -> dict[str, ModuleType]:
    found = {}
    for name, place in (("pysqlite3", "pysqlite3.dbapi2"), ("sqlite3", "sqlite3")):
        try:
            found[name] = importlib.import_module(place)
        except ImportError:
            continue
    return found


COPIES: Mapping[str, ModuleType] = _installed()
"""The copies of SQLite that can be imported, by package; ours is the first."""

if TYPE_CHECKING:
    import sqlite3 as module
else:
    module = next(iter(COPIES.values()))

Connection = module.Connection
Cursor = module.Cursor
Error = module.Error
connect = module.connect

ERRORS: tuple[type[module.Error], ...] = tuple(copy.Error for copy in COPIES.values())
"""What a connection of any copy may raise."""


def copy_of(connection: object) -> str | None:
    """The package of the copy of SQLite this connection belongs to, or None if it is none of `COPIES`.

    >>> copy_of(COPIES["sqlite3"].connect(":memory:"))
    'sqlite3'
    """
    for kind in type(connection).__mro__:
        package = kind.__module__.partition(".")[0]
        if kind.__name__ == "Connection" and package in COPIES:
            return package
    return None


version_info: tuple[int, int, int] = module.sqlite_version_info
"""Of the SQLite library, not of the Python module."""


def has_wal_reset_bug(version: tuple[int, int, int] = version_info) -> bool:
    """Whether a checkpoint racing a commit of another process can corrupt a WAL database in this SQLite.

    3.7.0 to 3.51.2, but for the backports. Our own processes exclude each other by a lock file.

    >>> has_wal_reset_bug((3, 40, 1)), has_wal_reset_bug((3, 51, 3)), has_wal_reset_bug((3, 50, 7))
    (True, False, False)
    """
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    return (3, 7, 0) <= version < (3, 51, 3)
