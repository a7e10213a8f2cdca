-- name: due_ids
-- The rows that a claim would read from a queue, in its order.
SELECT id FROM mpdispatch_jobs WHERE lane = 1 AND queue = ? ORDER BY priority DESC, run_at_us, id LIMIT ?;

-- name: parked_ids
-- The same for the parked jobs of one name.
SELECT id FROM mpdispatch_jobs WHERE lane = 3 AND name = ? AND queue = ? ORDER BY priority DESC, run_at_us, id LIMIT ?;

-- name: later_ids
-- The rows to stage.
SELECT id FROM mpdispatch_jobs WHERE lane = 2 AND queue = ? AND state = ? AND run_at_us <= ? ORDER BY run_at_us LIMIT ?;

-- name: examined_rows
-- The columns needed to run a job, in the order of a ClaimedJob, and to change its state; then those shown to people.
SELECT
    id, starts, attempt, $claimed,
    state, lane, owner, completed_at_us, duration_us, blocked_reason,
    created_at_us, started_at_us, batch_id, retried_from, retried_as, worker_pid, cpu_us, max_rss_bytes
FROM mpdispatch_jobs WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id;

-- name: scan_rows
-- For examining the store: every row's text, and whether anything else is odd.
SELECT
    id, name, queue, state, idempotency_key, trace_context, blocked_reason,
    id < 1 OR attempt NOT BETWEEN 0 AND starts OR max_retries < 0
    OR created_at_us NOT BETWEEN :earliest AND :latest
    OR coalesce(started_at_us, 0) NOT BETWEEN :earliest AND :latest
    OR coalesce(completed_at_us, 0) NOT BETWEEN :earliest AND :latest
    OR (state = 'running' AND attempt = 0)
    OR $misplaced
FROM mpdispatch_jobs ORDER BY id;

-- name: condemn
-- Ends the job, whatever its columns hold: columns with a CHECK are repaired, the others stay as evidence.
UPDATE mpdispatch_jobs SET
    state = ?,
    lane = NULL,
    owner = NULL,
    blocked_reason = NULL,
    cancel_requested_us = NULL,
    duration_us = NULL,
    completed_at_us = ?,
    starts = max(starts, 0),
    attempt = min(max(attempt, 0), max(starts, 0)),
    max_retries = max(max_retries, 0),
    last_error = ?
WHERE id = ?;

-- name: tidy_ended
-- An ended row that is in a lane or has an owner: its outcome does not change.
UPDATE mpdispatch_jobs SET
    lane = NULL,
    owner = NULL,
    blocked_reason = NULL,
    cancel_requested_us = NULL,
    completed_at_us = coalesce(completed_at_us, ?),
    duration_us = CASE WHEN state = 'completed' THEN duration_us END
WHERE id = ?;

-- name: astray
-- Of the next rows by id: the last one, those of these queues that an index wrongly lacks or wrongly contains, and those
-- that wait for parents without a row that says so. Parameters: the queues, the id to continue after, the number of rows.
-- Reads only the head of each row.
SELECT
    max(id),
    count(*),
    json_group_array(id) FILTER (WHERE $misplaced AND queue IN (SELECT value FROM json_each(?))),
    json_group_array(id) FILTER (
        WHERE lane = 4 AND NOT EXISTS (SELECT 1 FROM mpdispatch_dependents AS d WHERE d.job_id = id)
    )
FROM (
    SELECT id, queue, state, lane, owner, completed_at_us, duration_us, blocked_reason
    FROM mpdispatch_jobs WHERE id > ? ORDER BY id LIMIT ?
);
