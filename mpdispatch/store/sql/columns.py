"""The columns of each table, once: the lists in the SQL files, and the decoding of rows, follow from them. Values only.

A new field of a job is a field of the structs in `model.job`, a step in `steps` that adds the column, and one line here.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpdispatch.model import ClaimedJob, JobState, NewJob
from mpdispatch.store.sql.mending import Column

JOB_COLUMNS = (
    Column("id", "integer"),
    Column("name", "text"),
    Column("queue", "text"),
    Column("state", "text"),
    Column("priority", "integer"),
    Column("attempt", "integer", least=0),
    Column("starts", "integer", least=0, most=(1 << 63) - 2),
    Column("max_retries", "integer", least=0),
    Column("run_at_us", "time"),
    Column("created_at_us", "time"),
    Column("started_at_us", "time"),
    Column("completed_at_us", "time"),
    Column("timeout_us", "duration", field="timeout"),
    Column("idempotency_key", "text"),
    Column("progress", "json"),
    Column("batch_id", "integer"),
    Column("retried_from", "integer"),
    Column("retried_as", "integer"),
    Column("blocked_reason", "text"),
    Column("worker_pid", "integer"),
    Column("cpu_us", "duration", field="cpu_s"),
    Column("max_rss_bytes", "integer"),
    Column("slot_us", "time"),
    Column("expires_at_us", "time"),
)
"""Of a job as people see it, but for `payload`, `last_error` and `result`, which may stand in another table."""
ATTEMPT_COLUMNS = (
    Column("job_id", "integer"),
    Column("starts", "integer"),
    Column("attempt", "integer"),
    Column("cause", "text"),
    Column("started_at_us", "time"),
    Column("finished_at_us", "time"),
    Column("duration_us", "duration", field="duration_s"),
    Column("worker_pid", "integer"),
    Column("error", "json"),
    Column("exit_status", "integer"),
    Column("signal", "text"),
    Column("cpu_us", "duration", field="cpu_s"),
    Column("max_rss_bytes", "integer"),
)
SUPERVISOR_COLUMNS = (
    Column("id", "integer"),
    Column("host", "text"),
    Column("machine_id", "text"),
    Column("boot_id", "text"),
    Column("pid", "integer", least=0, most=(1 << 31) - 1),
    Column("pid_start", "integer", least=0),
    Column("pid_namespace", "text"),
    Column("queues", "text"),
    Column("concurrency", "integer"),
    Column("app", "text"),
    Column("version", "text"),
    Column("started_us", "time"),
    Column("heartbeat_us", "time"),
    Column("lease_until_wall_us", "integer"),
    Column("lease_until_boot_us", "integer"),
    Column("token", "text"),
)
CRON_COLUMNS = (
    Column("id", "integer"),
    Column("name", "text"),
    Column("origin", "text"),
    Column("app", "text"),
    Column("revision", "integer"),
    Column("is_enabled", "integer", least=0, most=1),
    Column("is_orphan", "integer", least=0, most=1),
    Column("created_at_us", "time"),
    Column("enabled_at_us", "time"),
    Column("decided_until_us", "time"),
    Column("next_slot_us", "time"),
    Column("boot_id", "text"),
    Column("last_slot_us", "time"),
    Column("last_fired_us", "time"),
    Column("last_job_id", "integer"),
    Column("last_success_us", "time"),
    Column("late_since_us", "time"),
)
"""Of a cron entry, but for its spec, the payload of its jobs and its open firings."""

BATCH_COLUMNS = (
    Column("id", "integer"),
    Column("name", "text"),
    Column("created_at_us", "time"),
    Column("started_at_us", "time"),
    Column("ended_at_us", "time"),
    Column("is_open", "integer", least=0, most=1),
    Column("cancelled_at_us", "time"),
    Column("max_fails", "integer"),
    Column("max_fail_share", "real"),
    Column("total", "integer", least=0),
    Column("completed", "integer", least=0),
    Column("failed", "integer", least=0),
    Column("cancelled", "integer", least=0),
)
"""Of a batch, but for its callbacks and the members that have not ended."""
JUDGED = (
    "id",
    "is_open",
    "cancelled_at_us",
    "max_fails",
    "max_fail_share",
    "total",
    "completed",
    "failed",
    "cancelled",
)
"""What decides whether a batch has ended or failed too often."""

_OF_THE_ENQUEUE = (
    "payload",
    "run_at_us",
    "delay_us",
    "expires_at_us",
    "expires_us",
    "after",
    "parents_created_us",
    "on_parent_failure",
)
NEW = tuple(name for name in NewJob.__struct_fields__ if name not in _OF_THE_ENQUEUE)
"""Columns that a new job fills with the field of the same name."""
_COPIED = [name for name in NEW if name not in ("idempotency_key", "retried_from")]
_CLAIMED = ClaimedJob.__struct_fields__[3:-1]  # a claim changes starts and attempt; the payload is the last

_BY_NAME = {
    **{column.name: column for column in JOB_COLUMNS},
    "id": Column("id", "integer", least=1),
    "run_at_us": Column("run_at_us", "integer"),  # only compared where a job is claimed
    "trace_context": Column("trace_context", "text"),
    "lane": Column("lane", "integer"),
    "owner": Column("owner", "integer"),
    "duration_us": Column("duration_us", "integer"),
}


def _columns(*names: str) -> tuple[Column, ...]:
    return tuple(_BY_NAME[name] for name in names)


RUN_COLUMNS = _columns("id", "starts", "attempt", *_CLAIMED, "state")
"""Columns needed to run a job."""
EXAMINED_COLUMNS = (
    *RUN_COLUMNS,
    *_columns(
        "lane", "owner", "completed_at_us", "duration_us", "blocked_reason", "created_at_us", "started_at_us"
    ),
    *_columns("batch_id", "retried_from", "retried_as", "worker_pid", "cpu_us", "max_rss_bytes"),
)
"""Of the query `rows`."""


NEW_COLUMNS = _columns(*NEW)
"""Those of a new job."""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


LISTS = {
    "job": _listed(column.name for column in JOB_COLUMNS),
    "claimed": _listed(_CLAIMED),
    "new": _listed(NEW),
    "new_values": _listed("?" for _ in NEW),
    "copied": _listed(_COPIED),
    "attempt": _listed(column.name for column in ATTEMPT_COLUMNS),
    "attempt_values": _listed("?" for _ in ATTEMPT_COLUMNS),
    "new_supervisor": _listed(column.name for column in SUPERVISOR_COLUMNS[1:]),
    "new_supervisor_values": _listed(f":{column.name}" for column in SUPERVISOR_COLUMNS[1:]),
    "supervisor": _listed(column.name for column in SUPERVISOR_COLUMNS),
    "batch": _listed(column.name for column in BATCH_COLUMNS),
    "judged": _listed(JUDGED),
    "cron": _listed(column.name for column in CRON_COLUMNS),
    # Of an entry; valid whatever number stands there.
    "next_revision": f"(revision & {(1 << 62) - 1}) + 1",
    "states": _listed(f"'{state}'" for state in JobState),
}
"""The lists in the SQL files, by name."""
