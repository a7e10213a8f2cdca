-- name: due_ids
-- What a claim would read of a queue, in its order.
SELECT id FROM mpdispatch_jobs WHERE line = 1 AND queue = ? ORDER BY priority DESC, run_at_us, id LIMIT ?;

-- name: parked_ids
-- The same of one name's parked jobs.
SELECT id FROM mpdispatch_jobs WHERE line = 3 AND name = ? AND queue = ? ORDER BY priority DESC, run_at_us, id LIMIT ?;

-- name: later_ids
-- What is to be staged.
SELECT id FROM mpdispatch_jobs WHERE line = 2 AND queue = ? AND state = ? AND run_at_us <= ? ORDER BY run_at_us LIMIT ?;

-- name: never_ids
-- What never would be: text and blobs come after every number.
SELECT id FROM mpdispatch_jobs WHERE line = 2 AND queue = ? AND state = ? AND run_at_us >= '' LIMIT ?;

-- name: rows
-- What is needed to run a job, in the order of a ClaimedJob, and to move its row on.
SELECT
    id, starts, attempt, name, queue, priority, run_at_us, max_retries, timeout_us, idempotency_key, trace_context,
    state, line, owner, completed_at_us, duration_us, blocked_reason
FROM mpdispatch_jobs WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id;

-- name: all_rows
-- For whoever examines the store: reads the whole table. The others are what only people look at.
SELECT
    id, starts, attempt, name, queue, priority, run_at_us, max_retries, timeout_us, idempotency_key, trace_context,
    state, line, owner, completed_at_us, duration_us, blocked_reason,
    created_at_us, started_at_us, batch_id, retried_from, worker_pid, cpu_us, max_rss_bytes
FROM mpdispatch_jobs ORDER BY id;

-- name: condemn
-- It ends, whatever its columns hold: those a CHECK looks at are brought into order, the others stay as evidence.
UPDATE mpdispatch_jobs SET
    state = ?,
    line = NULL,
    owner = NULL,
    blocked_reason = NULL,
    cancel_requested_us = NULL,
    duration_us = NULL,
    completed_at_us = ?,
    starts = CASE WHEN typeof(starts) = 'integer' AND starts >= 0 THEN starts ELSE 0 END,
    attempt = CASE
        WHEN typeof(starts) = 'integer' AND typeof(attempt) = 'integer' AND attempt BETWEEN 0 AND starts THEN attempt
        ELSE 0
    END,
    max_retries = CASE WHEN typeof(max_retries) = 'integer' AND max_retries >= 0 THEN max_retries ELSE 0 END,
    last_error = ?
WHERE id = ?;

-- name: dead_letter
-- One may stand there already. The id: see insert_dead_letter.
INSERT OR IGNORE INTO mpdispatch_dead_letters (id, job_id, name, queue, failed_at_us)
SELECT
    CASE
        WHEN max(
            coalesce((SELECT max(id) FROM mpdispatch_dead_letters), 0),
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_dead_letters'), 0)
        ) >= 1 << 62
        THEN coalesce((SELECT max(id) FROM mpdispatch_dead_letters WHERE id < 1 << 62), 0) + 1
    END,
    id, name, queue, ?
FROM mpdispatch_jobs WHERE id = ?;

-- name: tidy_ended
-- An ended row that stands in a line or has an owner: it stays as it ended.
UPDATE mpdispatch_jobs SET
    line = NULL,
    owner = NULL,
    blocked_reason = NULL,
    cancel_requested_us = NULL,
    completed_at_us = coalesce(completed_at_us, ?),
    duration_us = CASE WHEN state = 'completed' THEN duration_us END
WHERE id = ?;

-- name: tidy_running
-- A running row with what only other states may have: an outcome could not be written over it.
-- One without an owner is number 0's from now on, as no supervisor is: so it is taken over.
UPDATE mpdispatch_jobs SET
    line = NULL,
    blocked_reason = NULL,
    duration_us = NULL,
    completed_at_us = NULL,
    owner = CASE typeof(owner) WHEN 'integer' THEN owner ELSE 0 END
WHERE id = ? AND state = 'running';

-- name: astray
-- Of the next rows in the order of their ids: the last one, and which of these queues' stand where no index finds them
-- or an index finds them that should not. The queues, behind which id, how many. Only the head of each row is read.
SELECT
    max(id),
    count(*),
    json_group_array(id) FILTER (
        WHERE CASE state
            WHEN 'completed' THEN line IS NOT NULL OR owner IS NOT NULL
            WHEN 'failed' THEN line IS NOT NULL OR owner IS NOT NULL
            WHEN 'cancelled' THEN line IS NOT NULL OR owner IS NOT NULL
            WHEN 'running' THEN line IS NOT NULL OR typeof(owner) <> 'integer'
            WHEN 'pending' THEN owner IS NOT NULL OR (line IS NOT 1 AND line IS NOT 3)
            WHEN 'scheduled' THEN owner IS NOT NULL OR line IS NOT 2
            WHEN 'retrying' THEN owner IS NOT NULL OR line IS NOT 2
            ELSE 1
        END AND queue IN (SELECT value FROM json_each(?))
    )
FROM (SELECT id, queue, state, line, owner FROM mpdispatch_jobs WHERE id > ? ORDER BY id LIMIT ?);
