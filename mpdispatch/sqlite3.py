"""Which SQLite this process uses, decided once. Ground: imports nothing of ours.

pysqlite3 (the `sqlite` extra) if it is installed, the standard library's module otherwise. Everything
of ours goes through here: two copies of SQLite on one file in one process corrupt it, because closing
a descriptor in one copy drops the POSIX locks of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3 as module
else:
    try:
        from pysqlite3 import dbapi2 as module
    except ImportError:
        import sqlite3 as module

__all__ = ["Connection", "Cursor", "Error", "connect", "has_wal_reset_bug", "module", "version_info"]

Connection = module.Connection
Cursor = module.Cursor
Error = module.Error
connect = module.connect

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
