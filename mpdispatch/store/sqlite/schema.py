"""The version of a store's schema, and how a file gets it.

sqlite-utils runs the steps; it is imported only when needed (the import alone takes 150 ms or more).
The version is stored in `mpdispatch_meta`; `user_version` belongs to the owner of the file.
"""

from __future__ import annotations

from mpdispatch import sqlite3
from mpdispatch.errors import StoreCorrupt, StoreForeign, StoreMissing, StoreNotUTF8, StoreTooNew, StoreTooOld
from mpdispatch.store.sqlite.queries import SCHEMA, statements
from mpdispatch.store.sqlite.steps import BASE, LATEST, steps

VERSION = LATEST
APPLICATION_ID = 0x4D504453  # "MPDS"


def version_of(connection: sqlite3.Connection, location: str) -> int | None:
    """The schema's version; 0 for an empty database, None for one that holds other tables only.

    Raises:
        StoreNotUTF8, StoreCorrupt.
    """
    # One statement in the common case, as this runs for every new connection. The bytes of one letter show the
    # encoding of all text: payloads are read as bytes, and workers expect UTF-8.
    try:
        row = connection.execute(
            "SELECT value, CAST('a' AS BLOB) FROM mpdispatch_meta WHERE key = 'schema_version'"
        ).fetchone()
    except sqlite3.ERRORS as error:
        if "no such table" not in str(error):
            raise
        found = connection.execute("SELECT count(*), CAST('a' AS BLOB) FROM sqlite_master").fetchone()
        _refuse_utf16(found[1], location)
        return None if found[0] else 0
    if row is None or not str(row[0]).isdecimal():
        raise StoreCorrupt(location, "its mpdispatch_meta names no schema version")
    _refuse_utf16(row[1], location)
    return int(row[0])


def _refuse_utf16(letter: bytes, location: str) -> None:
    if letter != b"a":
        raise StoreNotUTF8(location, "UTF-16le" if letter[0] else "UTF-16be")


def refuse_unusable(found: int | None, location: str, *, is_shared: bool) -> None:
    """Raise the error for a store of this version if it is not usable as it is."""
    if found is None and not is_shared:
        raise StoreForeign(location)
    if not found:
        raise StoreMissing(location)
    if found > VERSION:
        raise StoreTooNew(location, found, VERSION)
    if found < VERSION:
        raise StoreTooOld(location, found, VERSION)


def apply(connection: sqlite3.Connection, found: int | None, location: str, *, is_new_file: bool) -> None:
    """Bring the schema from the version found (none: 0 or None) to VERSION, inside the caller's transaction."""
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    class OurMigrations(Migrations):
        # All our names in the user's own database must be mpdispatch_*.
        migrations_table = "mpdispatch_migrations"

    migrations = OurMigrations("mpdispatch")
    for step in steps():
        if step.version > (found or BASE):
            migrations(name=step.name)(lambda _, run=step.run: run(connection, location))
        elif not found and step.version == BASE:
            migrations(name=step.name)(lambda _: _create(connection))
    migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
    connection.execute(
        "INSERT INTO mpdispatch_meta (key, value) VALUES ('schema_version', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(VERSION),),
    )
    if is_new_file:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _create(connection: sqlite3.Connection) -> None:
    for statement in statements(SCHEMA):
        connection.execute(statement)
