"""Checks of the server: its version and settings, its clock, what stands between, and the store's tables. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from mpdispatch.model import Finding, Level
from mpdispatch.store.postgres.migration import OLDEST_SERVER
from mpdispatch.store.sql import findings
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.values import Durability

_SLACK_S = 1.0
_BEHIND = 1_000_000
"""Rows that were deleted or replaced and not vacuumed, from which on claims become slow."""
_SETTINGS = "SELECT current_setting('{0}', true)"


class _Server(NamedTuple):
    version: int
    full_version: str
    is_replica: bool
    clock_s: float
    asked_s: float
    """The middle of the question, by our clock."""
    took_s: float


def of_store(connection: Connection, *, durability: Durability, is_proxied: bool | None) -> Iterator[Finding]:
    """All of it. `is_proxied`: as connections have found out."""
    server = _ask(connection)
    yield _version(server)
    yield from _durability(connection, durability)
    yield _clock(server)
    yield _proxy(is_proxied)
    yield _connections(connection)
    yield from _dead_rows(connection)
    yield from findings.of_rows(connection)


def _ask(connection: Connection) -> _Server:
    connection.execute("SELECT 1").fetchone()  # the first one may wait for a new connection
    began_s = time.time()
    row = connection.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),"
        " extract(epoch FROM clock_timestamp())::float8"
    ).fetchone()
    took_s = time.time() - began_s
    return _Server(row[0], row[1], bool(row[2]), row[3], began_s + took_s / 2, took_s)


def _version(server: _Server) -> Finding:
    message = f"PostgreSQL {server.full_version}"
    if server.is_replica:
        return Finding(
            check="server",
            level=Level.ERROR,
            message=f"{message}, a replica: nothing can be enqueued or run",
            remedy="name the primary server (with several hosts in the URL: target_session_attrs=read-write)",
        )
    if server.version // 10_000 == OLDEST_SERVER:
        message += f", the oldest that mpdispatch knows, answers in {1000 * server.took_s:.1f} ms"
        return Finding(check="server", level=Level.NOTE, message=message)
    return Finding(
        check="server", level=Level.OK, message=f"{message} answers in {1000 * server.took_s:.1f} ms"
    )


def _setting(connection: Connection, name: str) -> str | None:
    found: str | None = connection.execute(_SETTINGS.format(name)).fetchone()[0]
    return found


def _durability(connection: Connection, durability: Durability) -> Iterator[Finding]:
    is_sound = True
    for name, cost in (
        ("fsync", "a power cut may destroy the whole database"),
        ("full_page_writes", "a power cut in the middle of a write may destroy tables"),
    ):
        if _setting(connection, name) == "off":
            is_sound = False
            yield Finding(
                check="durability",
                level=Level.WARNING,
                message=f"the server is set to {name} = off: {cost}, acknowledged jobs with it",
                remedy=f"{name} = on in postgresql.conf",
            )
    if durability != "full":
        yield Finding(
            check="durability",
            level=Level.NOTE,
            message="durability is 'process': a power cut or crash of the server may cost the last moments of what was"
            " enqueued",
            remedy="open the store with durability='full', the default, if that matters",
        )
    elif is_sound:
        synced = _setting(connection, "synchronous_commit")
        shown = (
            "" if synced in ("on", "remote_write", "remote_apply") else f" (the server's {synced} is overruled)"
        )
        yield Finding(check="durability", level=Level.OK, message=f"commits wait for the server's disk{shown}")


def _clock(server: _Server) -> Finding:
    difference_s = server.clock_s - server.asked_s
    if abs(difference_s) - server.took_s / 2 <= _SLACK_S:
        return Finding(check="server clock", level=Level.OK, message="as this machine's")
    way = "ahead of" if difference_s > 0 else "behind"
    return Finding(
        check="server clock",
        level=Level.WARNING,
        message=f"the server's clock is {abs(difference_s):.1f} s {way} this machine's; leases and due times go by the"
        " server's, run_at and cron slots are computed by this one's",
        remedy="have both clocks set by NTP",
    )


def _proxy(is_proxied: bool | None) -> Finding:
    if not is_proxied:
        return Finding(check="proxy", level=Level.OK, message="no proxy that pools transactions stands between")
    return Finding(
        check="proxy",
        level=Level.NOTE,
        message="a proxy that pools transactions stands between: no statement is prepared in advance, and nobody is woken:"
        " supervisors look at each poll interval, waiting clients look again and again",
        remedy="give supervisors the server's own address, if new jobs are to start at once",
    )


def _connections(connection: Connection) -> Finding:
    row = connection.execute(
        "SELECT current_setting('max_connections')::int,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
    ).fetchone()
    most, used = int(row[0]), int(row[1])
    if used < 0.9 * most:
        return Finding(check="connections", level=Level.OK, message=f"{used} of {most} connections are in use")
    return Finding(
        check="connections",
        level=Level.WARNING,
        message=f"{used} of {most} connections of the server are in use; a supervisor needs two, a client up to pool_size",
        remedy="raise max_connections, lower pool_size, or put a proxy such as PgBouncer between clients and server",
    )


def _dead_rows(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT n_dead_tup, last_autovacuum IS NULL AND last_vacuum IS NULL FROM pg_stat_user_tables"
        " WHERE relid = (SELECT tableoid FROM mpdispatch_jobs LIMIT 1)"
    ).fetchone()
    if row is not None and row[0] >= _BEHIND:
        yield Finding(
            check="vacuum",
            level=Level.WARNING,
            message=f"{row[0]} dead rows of mpdispatch_jobs wait for autovacuum: claims become slow",
            remedy="end transactions that have been open for long (pg_stat_activity), and let autovacuum run more often",
        )
