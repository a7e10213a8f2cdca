-- name: insert_job
-- A key in use under the same name inserts nothing; the caller then reads the older job.
INSERT INTO mpdispatch_jobs (
    name, queue, state, priority, run_at_us, max_retries, timeout_us, created_at_us, idempotency_key,
    retried_from, payload, trace_context
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;

-- name: insert_batch
-- With ids of our own choice, so that they are contiguous and known beforehand.
INSERT INTO mpdispatch_jobs (
    id, name, queue, state, priority, run_at_us, max_retries, timeout_us, created_at_us, batch_id, payload,
    trace_context
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: last_id
-- The highest id ever given, pruned jobs included.
SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_jobs';

-- name: insert_payload
-- A large payload stands apart from the row that claims and outcomes rewrite.
INSERT INTO mpdispatch_payloads (job_id, payload) VALUES (?, ?);

-- name: id_of_key
-- The job that has this idempotency key.
SELECT id FROM mpdispatch_jobs WHERE name = ? AND idempotency_key = ?;

-- name: jobs
-- Everything of a Job; WHERE and ORDER are added to it. The last error stands with its attempt, unless nothing
-- was started.
SELECT
    j.id, j.name, j.queue, j.state, j.priority, coalesce(j.payload, p.payload), j.attempt, j.starts,
    j.max_retries, j.run_at_us, j.created_at_us, j.started_at_us, j.completed_at_us, j.timeout_us,
    j.idempotency_key,
    coalesce(
        j.last_error,
        (
            SELECT a.error FROM mpdispatch_attempts AS a
            WHERE a.job_id = j.id AND a.error IS NOT NULL
            ORDER BY a.starts DESC LIMIT 1
        )
    ),
    coalesce(j.result, r.result), j.progress, j.batch_id, j.retried_from, j.blocked_reason,
    j.worker_pid, j.cpu_us, j.max_rss_bytes,
    EXISTS (SELECT 1 FROM mpdispatch_queues AS q WHERE q.name = j.queue AND q.is_paused)
FROM mpdispatch_jobs AS j
LEFT JOIN mpdispatch_payloads AS p ON p.job_id = j.id
LEFT JOIN mpdispatch_results AS r ON r.job_id = j.id

-- name: state_of
-- Polled while somebody waits: one seek.
SELECT state FROM mpdispatch_jobs WHERE id = ?;

-- name: attempts
-- The history, oldest first, as the table is ordered.
SELECT
    job_id, starts, attempt, cause, started_at_us, finished_at_us, duration_us, worker_pid, error, exit_status,
    signal, cpu_us, max_rss_bytes
FROM mpdispatch_attempts WHERE job_id = ? ORDER BY starts;

-- name: counts
-- Two index scans, no table row is read.
SELECT state, count(*) FROM mpdispatch_jobs WHERE state <> 'running' GROUP BY state
UNION ALL
SELECT 'running', count(*) FROM mpdispatch_jobs WHERE state = 'running';

-- name: dead_letter_count
-- Not replayed ones, by their partial index.
SELECT count(*) FROM mpdispatch_dead_letters WHERE replayed_at_us IS NULL;

-- name: queue_counts
-- A table scan: for people, not for loops.
SELECT queue, state, count(*) FROM mpdispatch_jobs GROUP BY queue, state;

-- name: queues
-- Queues somebody paused or limited, whether they hold jobs or not.
SELECT name, is_paused FROM mpdispatch_queues;

-- name: set_paused
-- The token bucket in the same row is left alone.
INSERT INTO mpdispatch_queues (name, is_paused) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET is_paused = excluded.is_paused;

-- name: cancel_waiting
-- A job nobody runs ends at once.
UPDATE mpdispatch_jobs SET state = 'cancelled', completed_at_us = ?, blocked_reason = NULL
WHERE id = ? AND state IN ('scheduled', 'pending', 'retrying');

-- name: cancel_running
-- Only its supervisor can end it; the first request's time stays.
UPDATE mpdispatch_jobs SET cancel_requested_us = coalesce(cancel_requested_us, ?)
WHERE id = ? AND state = 'running';

-- name: run_now
-- A waiting job becomes due.
UPDATE mpdispatch_jobs SET state = 'pending', run_at_us = ?
WHERE id = ? AND state IN ('scheduled', 'retrying');

-- name: enqueue_again
-- The ended row stays as it ended. Its idempotency key stays with it: a key names one row.
INSERT INTO mpdispatch_jobs (
    name, queue, state, priority, run_at_us, max_retries, timeout_us, created_at_us, retried_from, payload,
    trace_context
)
SELECT name, queue, 'pending', priority, :now, max_retries, timeout_us, :now, id, payload, trace_context
FROM mpdispatch_jobs WHERE id = :id AND state IN ('failed', 'cancelled');

-- name: copy_payload
-- For a job enqueued again.
INSERT INTO mpdispatch_payloads (job_id, payload) SELECT ?, payload FROM mpdispatch_payloads WHERE job_id = ?;

-- name: replay_dead_letter
-- In the transaction that enqueues the job again.
UPDATE mpdispatch_dead_letters SET replayed_at_us = ?, replayed_as = ?
WHERE job_id = ? AND replayed_at_us IS NULL;

-- name: register
-- A new id each time: a supervisor that lost its lease can never write under its old one.
INSERT INTO mpdispatch_supervisors (
    host, machine_id, boot_id, pid, pid_start, pid_namespace, queues, concurrency, app, version, started_us,
    heartbeat_us, lease_until_us, lease_until_boot_us
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: is_registered
-- The first statement of every transaction a supervisor writes in.
SELECT 1 FROM mpdispatch_supervisors WHERE id = ?;

-- name: unregister
-- Its jobs are finished, released or taken over by then.
DELETE FROM mpdispatch_supervisors WHERE id = ?;

-- name: renew
-- One write renews the lease of every job of this owner.
UPDATE mpdispatch_supervisors SET heartbeat_us = ?, lease_until_us = ?, lease_until_boot_us = ? WHERE id = ?;

-- name: owned
-- By the running index; a few hundred rows at most.
SELECT id, starts FROM mpdispatch_jobs WHERE state = 'running' AND owner = ?;

-- name: cancel_requests
-- By a partial index that is nearly always empty.
SELECT id, starts FROM mpdispatch_jobs
WHERE state = 'running' AND cancel_requested_us IS NOT NULL AND owner = ?;

-- name: supervisors
-- All of them, dead or alive: telling which is the reader's business.
SELECT
    id, host, machine_id, boot_id, pid, pid_start, pid_namespace, queues, concurrency, app, version, started_us,
    heartbeat_us, lease_until_us, lease_until_boot_us
FROM mpdispatch_supervisors ORDER BY id;

-- name: lease_of
-- Has it renewed since it was looked at?
SELECT heartbeat_us, lease_until_us, lease_until_boot_us FROM mpdispatch_supervisors WHERE id = ?;

-- name: jobs_of
-- What a supervisor runs, as it was claimed.
SELECT
    j.id, j.starts, j.attempt, j.name, j.queue, j.priority, j.run_at_us, j.max_retries, j.timeout_us,
    j.idempotency_key, coalesce(j.payload, p.payload), j.trace_context
FROM mpdispatch_jobs AS j LEFT JOIN mpdispatch_payloads AS p ON p.job_id = j.id
WHERE j.state = 'running' AND j.owner = ? ORDER BY j.id;

-- name: paused
-- Few rows ever: only queues somebody paused or limited.
SELECT name FROM mpdispatch_queues WHERE is_paused;

-- name: bucket
-- Boottime means nothing in another boot.
SELECT tat_us FROM mpdispatch_queues WHERE name = ? AND tat_boot_id = ?;

-- name: charge
-- A bucket of another boot is overwritten: boottime begins anew.
INSERT INTO mpdispatch_queues (name, tat_us, tat_boot_id) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET tat_us = excluded.tat_us, tat_boot_id = excluded.tat_boot_id;

-- name: running_in
-- Over all supervisors; scans the running index only.
SELECT count(*) FROM mpdispatch_jobs WHERE state = 'running' AND queue = ?;

-- name: due
-- The heart of claim: read lazily, in the order jobs are taken; no sort.
SELECT
    id, starts, attempt, name, queue, priority, run_at_us, max_retries, timeout_us, idempotency_key, payload,
    trace_context
FROM mpdispatch_jobs
WHERE queue = ? AND state = 'pending' AND blocked_reason IS NULL
ORDER BY priority DESC, run_at_us, id;

-- name: has_due
-- The read before the write lock is taken.
SELECT 1 FROM mpdispatch_jobs WHERE queue = ? AND state = 'pending' AND blocked_reason IS NULL LIMIT 1;

-- name: parked_names
-- A walk from name to name: with a million parked jobs of one name it still reads two index entries.
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM mpdispatch_jobs WHERE state = 'pending' AND blocked_reason IS NOT NULL
    UNION ALL
    SELECT (
        SELECT min(j.name) FROM mpdispatch_jobs AS j
        WHERE j.state = 'pending' AND j.blocked_reason IS NOT NULL AND j.name > names.name
    )
    FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL;

-- name: parked
-- Like `due`, for one name.
SELECT
    id, starts, attempt, name, queue, priority, run_at_us, max_retries, timeout_us, idempotency_key, payload,
    trace_context
FROM mpdispatch_jobs
WHERE name = ? AND queue = ? AND state = 'pending' AND blocked_reason IS NOT NULL
ORDER BY priority DESC, run_at_us, id;

-- name: has_parked
-- Like `has_due`, for one name.
SELECT 1 FROM mpdispatch_jobs
WHERE name = ? AND queue = ? AND state = 'pending' AND blocked_reason IS NOT NULL LIMIT 1;

-- name: park
-- Leaves the due index, so it is refused once and not in every turn.
UPDATE mpdispatch_jobs SET blocked_reason = ? WHERE id = ? AND state = 'pending';

-- name: payload
-- For the few jobs that are claimed with a large one.
SELECT payload FROM mpdispatch_payloads WHERE job_id = ?;

-- name: take
-- The attempt is counted here, in the claiming statement.
UPDATE mpdispatch_jobs SET
    state = 'running', owner = ?, starts = starts + 1, attempt = attempt + 1, started_at_us = ?,
    worker_pid = NULL, cancel_requested_us = NULL, blocked_reason = NULL, progress = NULL
WHERE id = ? AND state = 'pending';

-- name: stage
-- Only due jobs stand in the index that claim walks.
UPDATE mpdispatch_jobs SET state = 'pending'
WHERE id IN (
    SELECT id FROM mpdispatch_jobs
    WHERE (state = 'scheduled' OR state = 'retrying') AND queue = ? AND run_at_us <= ?
    ORDER BY run_at_us LIMIT ?
);

-- name: next_due
-- One seek per polled queue.
SELECT run_at_us FROM mpdispatch_jobs
WHERE (state = 'scheduled' OR state = 'retrying') AND queue = ? ORDER BY run_at_us LIMIT 1;

-- name: finish
-- The guard: this owner, this start, still running. A cancel asked for while it ran must not be lost if the job
-- would otherwise run again. ?1 id, ?2 owner, ?3 starts, ?4 state, ?5 terminal?, ?6 at, ?7 attempt, ?8 run at,
-- ?9 started, ?10 result, ?11 error changes?, ?12 last error, ?13 pid, ?14 cpu, ?15 rss.
UPDATE mpdispatch_jobs SET
    state = CASE
        WHEN cancel_requested_us IS NOT NULL AND ?5 = 0 THEN 'cancelled' ELSE ?4
    END,
    completed_at_us = CASE
        WHEN cancel_requested_us IS NOT NULL OR ?5 THEN ?6
    END,
    owner = NULL,
    attempt = ?7,
    run_at_us = coalesce(?8, run_at_us),
    started_at_us = coalesce(
        ?9,
        (
            SELECT a.started_at_us FROM mpdispatch_attempts AS a
            WHERE a.job_id = mpdispatch_jobs.id ORDER BY a.starts DESC LIMIT 1
        )
    ),
    result = ?10,
    last_error = CASE WHEN ?11 THEN ?12 ELSE last_error END,
    worker_pid = ?13,
    cpu_us = ?14,
    max_rss_bytes = ?15
WHERE id = ?1 AND owner = ?2 AND starts = ?3 AND state = 'running';

-- name: insert_attempt
-- Keyed by the fencing token: one start has one end.
INSERT INTO mpdispatch_attempts (
    job_id, starts, attempt, cause, started_at_us, finished_at_us, duration_us, worker_pid, error, exit_status,
    signal, cpu_us, max_rss_bytes
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_result
-- A large result stands apart, like a large payload.
INSERT INTO mpdispatch_results (job_id, result) VALUES (?, ?);

-- name: insert_dead_letter
-- UNIQUE by job: a job fails once.
INSERT INTO mpdispatch_dead_letters (job_id, name, queue, failed_at_us)
SELECT id, name, queue, ? FROM mpdispatch_jobs WHERE id = ?;

-- name: progress
-- Guarded like an outcome; a late report is dropped.
UPDATE mpdispatch_jobs SET progress = ? WHERE id = ? AND owner = ? AND starts = ? AND state = 'running';

-- name: outstanding_due
-- Capped: a drain asks whether there is any.
SELECT count(*) FROM (
    SELECT 1 FROM mpdispatch_jobs
    WHERE queue = ? AND state = 'pending' AND blocked_reason IS NULL LIMIT 1000
);

-- name: outstanding_retrying
-- By the state index: jobs scheduled for later are not counted through.
SELECT count(*) FROM (
    SELECT 1 FROM mpdispatch_jobs
    WHERE state = 'retrying' AND state <> 'running' AND queue = ? LIMIT 1000
);
