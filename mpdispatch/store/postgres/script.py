"""The schema on a server as SQL, for people who review it, make it by hand, or enqueue from other programs. Pure."""

from __future__ import annotations

from mpdispatch.store.postgres import migration
from mpdispatch.store.postgres.options import ServerOptions
from mpdispatch.store.postgres.wake import WORK
from mpdispatch.store.sql.by_hand import commented, how_to_enqueue

_INSERT = """
INSERT INTO {schema}.mpdispatch_jobs
    (name, queue, state, lane, priority, run_at_us, max_retries, created_at_us, payload)
SELECT 'render', 'default', 'pending', 1, 0, now.us, 3, now.us, '{{"path": "a.pdf"}}'
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) AS now;
"""
_ABOUT = """
NOTIFY {channel}; in the same transaction wakes supervisors at once.
With an idempotency key, end the statement with
    ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
"""


def script(options: ServerOptions) -> str:
    """The SQL that makes an empty store of this version in its schema."""
    insert = _INSERT.format(schema=options.quoted_schema)
    how = how_to_enqueue(insert, _ABOUT.format(channel=options.channel(WORK)))
    head = f"-- mpdispatch's tables in PostgreSQL, schema version {migration.VERSION}."
    return f"{head}\n{commented(how)}\n\n{migration.script(options)}"
