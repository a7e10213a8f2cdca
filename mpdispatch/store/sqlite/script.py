"""The schema of a file as SQL, for people who review it, make it by hand, or enqueue from other programs. Reads no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from mpdispatch.store.sql.by_hand import commented, how_to_enqueue
from mpdispatch.store.sqlite import connect, schema

_INSERT = """
INSERT INTO mpdispatch_jobs
    (id, name, queue, state, lane, priority, run_at_us, max_retries, created_at_us, payload)
SELECT last.id + 1, 'render', 'default', 'pending', 1, 0, now.us, 3, now.us, '{"path": "a.pdf"}'
FROM mpdispatch_last_id AS last,
    (SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) AS us) AS now;
"""
_ABOUT = """
In the program sqlite3, first: PRAGMA busy_timeout = 30000; PRAGMA wal_autocheckpoint = 0;
With an idempotency key, end the statement with
    WHERE true ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
"""
_OF_A_FILE = """
-- Before the first table: pruning gives room back to the disk, and readers do not wait for writers.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
"""

_VERSION = "INSERT INTO mpdispatch_meta (key, value) VALUES ('schema_version', '{}');"


def script(*, is_shared: bool) -> str:
    """The SQL that makes an empty store of this version. `is_shared`: in an application's own file."""
    return "\n".join(_parts(is_shared))


def _parts(is_shared: bool) -> Iterator[str]:
    yield f"-- mpdispatch's tables in SQLite, schema version {schema.VERSION}."
    yield commented(how_to_enqueue(_INSERT, _ABOUT))
    if not is_shared:
        yield _OF_A_FILE
    with closing(connect.connect_memory()) as connection:
        connection.execute("BEGIN IMMEDIATE")
        schema.apply(connection, 0, ":memory:", is_new_file=False)
        for (sql,) in connection.execute(
            "SELECT sql FROM sqlite_master"
            " WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' AND tbl_name <> 'mpdispatch_migrations' ORDER BY rowid"
        ):
            yield f"{sql.strip()};\n"
        connection.execute("ROLLBACK")
    yield _VERSION.format(schema.VERSION)
    if not is_shared:
        yield f"PRAGMA application_id = {schema.APPLICATION_ID};"
