"""The slots of cron entries that fired or were skipped. Each function inside one transaction."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mpdispatch.model import CronEntry, SkippedSlots
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.queries import QUERIES

DELETE_AT_ONCE = 2000
"""Rows per transaction: a claim waits at most some milliseconds for it."""


def has_fired(connection: Connection, cron_id: int, slot_us: int) -> bool:
    return bool(connection.execute(QUERIES["has_fired"], (cron_id, slot_us)).fetchone()[0])


def close(connection: Connection, cron_id: int, slots: Iterable[int]) -> None:
    """The jobs of these slots have ended."""
    connection.executemany(QUERIES["close_slot"], [(cron_id, slot_us) for slot_us in slots])


def skip(connection: Connection, entry: CronEntry, skipped: SkippedSlots) -> None:
    """Record skipped slots. They join the last ones if those have the same reason and no other slot lies between."""
    row = connection.execute(QUERIES["last_skip"], {"id": entry.id}).fetchone()
    before = None if row is None else SkippedSlots(*row)
    if (
        before is not None
        and before.reason == skipped.reason
        and before.last_us < skipped.first_us
        and before.at_us >= entry.enabled_at_us
    ):
        connection.execute(QUERIES["delete_skip"], (entry.id, before.first_us, before.at_us))
        skipped = msgspec.structs.replace(skipped, first_us=before.first_us)
    values = (entry.id, skipped.first_us, skipped.last_us, skipped.reason, skipped.at_us)
    connection.execute(QUERIES["insert_skip"], values)


def retry(connection: Connection, old_id: int, new_id: int) -> None:
    """If a cron entry made the old job, the new one takes its place in the slot."""
    for (cron_id,) in connection.execute(QUERIES["crons_of_job"], (old_id,)).fetchall():
        connection.execute(QUERIES["take_slot"], (new_id, old_id))
        connection.execute(QUERIES["retried_cron"], (old_id, new_id, cron_id))


def delete(connection: Connection, cron_id: int) -> bool:
    """Delete up to DELETE_AT_ONCE fired slots and skips of an entry. Returns whether there may be more."""
    values = (cron_id, DELETE_AT_ONCE)
    gone = [connection.execute(QUERIES[query], values).rowcount for query in ("delete_slots", "delete_skips")]
    return max(gone) == DELETE_AT_ONCE
