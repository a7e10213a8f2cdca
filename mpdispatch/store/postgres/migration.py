"""Makes the store's tables and brings them up to date, under the schema's lock. No superuser is needed. Effects.

Everything happens in one transaction: whoever looks sees the schema as it was, or as it is to be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from psycopg import pq

from mpdispatch.errors import StoreError, StoreMissing, StoreNotUTF8, StoreTooNew, StoreTooOld
from mpdispatch.store.postgres.options import ServerOptions
from mpdispatch.store.postgres.wire import Wire

VERSION = 5
"""That of SQLite's schema with the same tables and columns."""
OLDEST_SERVER = 14
_HERE = Path(__file__).parent
_FILES = ("base.sql", "schema.sql")
_END_OF_STATEMENT = re.compile(r";[ \t]*(?:\n|$)")


class Server(NamedTuple):
    """What a new connection finds out in one question."""

    version: int
    """As in `server_version_num`: 180006."""
    is_proxied: bool
    """A proxy that pools transactions stands between: the backend that answers is not the one we were introduced to."""
    synchronous_commit: str
    encoding: str
    server_us: int
    """Wall time of the server."""
    schema_version: int
    """0: there are no tables of ours."""


def look(wire: Wire, options: ServerOptions) -> Server:
    """Who answers here, and which version of the schema it has. Raises psycopg.Error."""
    pid, version, is_synced, encoding, server_us, has_meta = first_row(
        wire.exchange(
            "SELECT pg_backend_pid(), current_setting('server_version_num'), current_setting('synchronous_commit'),"
            " current_setting('server_encoding'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,"
            # Not to_regclass: within a transaction that has waited for a lock it may not see what others have made.
            " EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            f" WHERE n.nspname = {_literal(options.schema)} AND c.relname = 'mpdispatch_meta')".encode()
        )
    )
    found = 0
    if has_meta == "t":
        row = first_row(
            wire.exchange(
                f"SELECT value FROM {options.quoted_schema}.mpdispatch_meta WHERE key = 'schema_version'".encode()
            )
        )
        found = int(row[0]) if row and str(row[0]).isdecimal() else 0
    is_proxied = options.proxy if options.proxy is not None else int(pid) != wire.raw.pgconn.backend_pid
    return Server(int(version), is_proxied, is_synced, encoding, int(server_us), found)


def refuse_unusable(server: Server, location: str) -> None:
    """Raise the error for a store on this server if it is not usable as it is."""
    refuse_server(server, location)
    if not server.schema_version:
        raise StoreMissing(location)
    if server.schema_version < VERSION:
        raise StoreTooOld(location, server.schema_version, VERSION)


def refuse_server(server: Server, location: str) -> None:
    """Raise the error for a server, or a store on it, that this version cannot use and cannot migrate."""
    if server.version < OLDEST_SERVER * 10_000:
        shown = f"{server.version // 10_000}.{server.version % 10_000}"
        raise StoreError(
            location, f"its server is PostgreSQL {shown}; mpdispatch needs {OLDEST_SERVER} or newer"
        )
    if server.encoding != "UTF8":
        raise StoreNotUTF8(location, server.encoding)
    if server.schema_version > VERSION:
        raise StoreTooNew(location, server.schema_version, VERSION)


def script(options: ServerOptions, found: int = 0) -> str:
    """The SQL that brings a schema from the version found (0: none) to ours; empty if it is there already."""
    return "".join(f"{each};\n\n" for each in _statements(options, found))


def migrate(wire: Wire, options: ServerOptions, location: str) -> tuple[int, int]:
    """Create the tables or bring them up to date. Returns (version before, version now).

    Waits for the lock as long as the wire's deadline lets it. Safe when many processes do it at once. Raises
    psycopg.Error; StoreTooNew, StoreNotUTF8, StoreError.
    """
    before = look(wire, options)
    refuse_server(before, location)
    if before.schema_version == VERSION:
        return VERSION, VERSION
    first, second = options.lock_key
    wire.exchange(
        f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({first}, {second})".encode()
    )
    try:
        found = look(wire, options)  # again: others may have been quicker
        refuse_server(found, location)
        for statement in _statements(options, found.schema_version):
            wire.exchange(statement.encode())
        wire.exchange(b"COMMIT")
    except BaseException:
        if wire.is_open:
            wire.exchange(b"ROLLBACK")
        raise
    return found.schema_version, VERSION


def _statements(options: ServerOptions, found: int) -> list[str]:
    if found == VERSION:
        return []
    schema = options.quoted_schema
    texts = [(_HERE / name).read_text(encoding="utf-8") for name in _FILES if (_HERE / name).is_file()]
    made = [each for text in texts for each in statements(text.replace("{schema}", schema))]
    version = (
        f"INSERT INTO {schema}.mpdispatch_meta (key, value) VALUES ('schema_version', '{VERSION}')"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    return [_schema_statement(options), *made, version]


def _schema_statement(options: ServerOptions) -> str:
    # CREATE SCHEMA IF NOT EXISTS asks for the right to make one even if it is there.
    name, quoted = _literal(options.schema), options.quoted_schema
    text = f"""DO $do$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = {name}) THEN
        CREATE SCHEMA {quoted};
    END IF;
END $do$"""
    if "$do$" in options.schema:
        return f"CREATE SCHEMA IF NOT EXISTS {quoted}"
    return text


def statements(text: str) -> list[str]:
    """The statements of a schema file, without comments. None has a semicolon at the end of a line inside.

    >>> statements("-- why\\nCREATE TABLE a (\\n  b int -- c\\n);\\nSELECT 1;")
    ['CREATE TABLE a (\\n  b int -- c\\n)', 'SELECT 1']
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [each.strip() for each in _END_OF_STATEMENT.split("\n".join(lines)) if each.strip()]


def _literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def first_row(results: list[pq.abc.PGresult]) -> tuple[str, ...]:
    """The first row of the last result that has rows, as text; empty if there is none."""
    for result in reversed(results):
        if result.status == pq.ExecStatus.TUPLES_OK:
            if not result.ntuples:
                return ()
            return tuple((result.get_value(0, column) or b"").decode() for column in range(result.nfields))
    return ()
