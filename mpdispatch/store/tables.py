"""The tables of a store as they travel to another one: columns and keys, version 5 of the schema. Values only.

SQL stores hold them one to one, as `mpdispatch_<name>`; a store of another kind makes its own records of these rows, and
these rows of its records. Not among them: what lives with the place (`supervisors`, `meta`).
"""

from __future__ import annotations

from typing import NamedTuple, cast

Value = int | float | str | bytes | None
Row = tuple[Value, ...]
"""The values of one row, in the order of the table's columns. Times and durations are microseconds."""
Key = tuple[int | str, ...]
"""The values of its key."""

LEAST_INTEGER = -(1 << 63)


class Table(NamedTuple):
    """One table. Its rows are read in the order of its key, which no two rows share."""

    name: str
    columns: tuple[str, ...]
    """Those of the key come first."""
    before_all: Key
    """A key that sorts before that of every row: as many values as the key has columns."""
    json: tuple[str, ...] = ()
    """Columns that hold JSON: text, or bytes if it is not UTF-8."""
    page: int = 1000
    """How many rows may be in memory at once: some are large."""

    @property
    def key(self) -> tuple[str, ...]:
        return self.columns[: len(self.before_all)]

    def key_of(self, row: Row) -> Key:
        return cast(Key, row[: len(self.before_all)])


_ID: Key = (LEAST_INTEGER,)
_TWO_IDS: Key = (LEAST_INTEGER, LEAST_INTEGER)

JOBS = Table(
    "jobs",
    (
        *("id", "name", "queue", "state", "lane", "priority", "run_at_us", "attempt", "starts", "max_retries"),
        *("owner", "timeout_us", "created_at_us", "started_at_us", "completed_at_us", "cancel_requested_us"),
        *("idempotency_key", "batch_id", "retried_from", "retried_as", "blocked_reason", "worker_pid"),
        *("duration_us", "cpu_us", "max_rss_bytes", "progress", "last_error", "result", "payload"),
        *("trace_context", "slot_us", "expires_at_us"),
    ),
    _ID,
    json=("progress", "last_error", "result", "payload"),
)
TABLES = (
    JOBS,
    Table("payloads", ("job_id", "payload"), _ID, json=("payload",), page=32),
    Table("results", ("job_id", "result"), _ID, json=("result",), page=32),
    Table(
        "attempt_rows",
        (
            *("job_id", "starts", "attempt", "cause", "started_at_us", "finished_at_us", "duration_us"),
            *("worker_pid", "exit_status", "signal", "cpu_us", "max_rss_bytes", "error"),
        ),
        _TWO_IDS,
        json=("error",),
    ),
    Table("outputs", ("job_id", "starts", "stream", "written", "text"), (*_TWO_IDS, ""), page=100),
    Table(
        "dead_letters",
        ("id", "job_id", "name", "queue", "failed_at_us", "closed_at_us", "replayed_as"),
        _ID,
    ),
    Table("queues", ("name", "is_paused", "tat_us", "tat_boot_id"), ("",)),
    Table(
        "crons",
        (
            *("id", "name", "spec", "payload", "origin", "app", "revision", "is_enabled", "is_orphan"),
            *("created_at_us", "enabled_at_us", "decided_until_us", "next_slot_us", "boot_id", "last_slot_us"),
            *("last_fired_us", "last_job_id", "last_success_us", "late_since_us"),
        ),
        _ID,
        json=("payload",),
    ),
    Table("cron_slots", ("cron_id", "slot_us", "fired_at_us", "job_id", "is_open"), _TWO_IDS),
    Table("cron_skips", ("cron_id", "first_us", "at_us", "last_us", "reason"), (*_TWO_IDS, LEAST_INTEGER)),
    Table(
        "batches",
        (
            *("id", "name", "key", "is_open", "max_fails", "max_fail_share", "created_at_us", "started_at_us"),
            *(
                "ended_at_us",
                "cancelled_at_us",
                "cancelling_before",
                "total",
                "completed",
                "failed",
                "cancelled",
            ),
        ),
        _ID,
    ),
    Table("callbacks", ("batch_id", "event", "name", "job", "job_id"), (LEAST_INTEGER, ""), json=("job",)),
    Table("dependents", ("job_id", "queue", "open_parents", "on_parent_failure"), _ID),
    Table("parents", ("job_id", "parent_id", "on_parent_failure"), _TWO_IDS),
)
"""All of them, in the order in which they are written."""

COUNTED = ("jobs", "dead_letters", "crons", "batches", "supervisors")
"""Tables that give each new row an id of its own, which no row gets again, also when the first one is gone."""
