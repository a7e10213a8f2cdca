"""Allowed values of the columns of each query, in order. Values only."""

from __future__ import annotations

from mpdispatch.store.sqlite.mending import Column

JOB_COLUMNS = (
    Column("id", "integer"),
    Column("name", "text"),
    Column("queue", "text"),
    Column("state", "text"),
    Column("priority", "integer"),
    Column("payload", "any"),
    Column("attempt", "integer"),
    Column("starts", "integer"),
    Column("max_retries", "integer"),
    Column("run_at_us", "time"),
    Column("created_at_us", "time"),
    Column("started_at_us", "time", is_optional=True),
    Column("completed_at_us", "time", is_optional=True),
    Column("timeout_us", "integer", is_optional=True),
    Column("idempotency_key", "text", is_optional=True),
    Column("last_error", "any"),
    Column("result", "any"),
    Column("progress", "any"),
    Column("batch_id", "integer", is_optional=True),
    Column("retried_from", "integer", is_optional=True),
    Column("blocked_reason", "text", is_optional=True),
    Column("worker_pid", "integer", is_optional=True),
    Column("cpu_us", "integer", is_optional=True),
    Column("max_rss_bytes", "integer", is_optional=True),
)
"""Of the query `jobs`."""
ATTEMPT_COLUMNS = (
    Column("job_id", "integer"),
    Column("starts", "integer"),
    Column("attempt", "integer"),
    Column("cause", "text"),
    Column("started_at_us", "time"),
    Column("finished_at_us", "time"),
    Column("duration_us", "integer", is_optional=True),
    Column("worker_pid", "integer", is_optional=True),
    Column("error", "any"),
    Column("exit_status", "integer", is_optional=True),
    Column("signal", "text", is_optional=True),
    Column("cpu_us", "integer", is_optional=True),
    Column("max_rss_bytes", "integer", is_optional=True),
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
    Column("lease_until_us", "integer"),
    Column("lease_until_boot_us", "integer"),
    Column("token", "text"),
)

RUN_COLUMNS = (
    Column("id", "integer", least=1),
    Column("starts", "integer", least=0, most=(1 << 63) - 2),
    Column("attempt", "integer", least=0),
    Column("name", "text"),
    Column("queue", "text"),
    Column("priority", "integer"),
    Column("run_at_us", "integer"),
    Column("max_retries", "integer", least=0),
    Column("timeout_us", "integer", is_optional=True),
    Column("idempotency_key", "text", is_optional=True),
    Column("trace_context", "text", is_optional=True),
    Column("state", "text"),
)
"""Columns needed to run a job: the first of the query `rows`."""
EXAMINED_COLUMNS = (
    *RUN_COLUMNS,
    Column("line", "integer", is_optional=True),
    Column("owner", "integer", is_optional=True),
    Column("completed_at_us", "time", is_optional=True),
    Column("duration_us", "integer", is_optional=True),
    Column("blocked_reason", "text", is_optional=True),
    Column("created_at_us", "time"),
    Column("started_at_us", "time", is_optional=True),
    Column("batch_id", "integer", is_optional=True),
    Column("retried_from", "integer", is_optional=True),
    Column("worker_pid", "integer", is_optional=True),
    Column("cpu_us", "integer", is_optional=True),
    Column("max_rss_bytes", "integer", is_optional=True),
)
"""Of the query `all_rows`."""
CLAIMED_COLUMNS = (
    Column("id", "integer", least=1),
    Column("starts", "integer", least=1),
    Column("attempt", "integer", least=1),
    *RUN_COLUMNS[3:10],
    Column("payload", "any"),
    Column("trace_context", "text", is_optional=True),
)
"""Of the queries that return ClaimedJobs."""
