-- name: insert_job
-- For jobs without a key, the common case: checking for a conflict costs as much as an index.
INSERT INTO mpdispatch_jobs (id, state, lane, run_at_us, created_at_us, expires_at_us, $new, payload)
VALUES ((SELECT id + 1 FROM mpdispatch_last_id), ?, ?, ?, ?, ?, $new_values, ?);

-- name: unless_key_in_use
-- The end of that statement for a job with a key: if the same name already uses the key, it inserts nothing and the
-- caller reads the older job.
ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;

-- name: insert_payload
-- A large payload is stored apart from the row that claims and outcomes rewrite.
INSERT INTO mpdispatch_payloads (job_id, payload) VALUES (?, ?);

-- name: id_of_key
-- The job that has this idempotency key.
SELECT id FROM mpdispatch_jobs WHERE name = ? AND idempotency_key = ?;

-- name: jobs
-- All columns of a Job; WHERE and ORDER are appended. The last error is stored with its attempt, unless the job
-- never started.
SELECT
    $job,
    coalesce(j.payload, p.payload),
    coalesce(
        j.last_error,
        (
            SELECT a.error FROM mpdispatch_attempt_rows AS a
            WHERE a.job_id = j.id AND a.error IS NOT NULL
            ORDER BY a.starts DESC LIMIT 1
        )
    ),
    coalesce(j.result, r.result),
    EXISTS (SELECT 1 FROM mpdispatch_queues AS q WHERE q.name = j.queue AND q.is_paused = 1),
    CASE WHEN j.lane = 4 THEN (SELECT d.open_parents FROM mpdispatch_dependents AS d WHERE d.job_id = j.id) END
FROM mpdispatch_jobs AS j
LEFT JOIN mpdispatch_payloads AS p ON p.job_id = j.id
LEFT JOIN mpdispatch_results AS r ON r.job_id = j.id

-- name: state_of
-- Polled by clients that wait for a job: one seek.
SELECT state FROM mpdispatch_jobs WHERE id = ?;

-- name: ended
-- Polled by clients that wait for many jobs: one seek for each. A row with a state that is none counts as ended.
SELECT given.value, j.id IS NOT NULL, j.state
FROM json_each(?) AS given LEFT JOIN mpdispatch_jobs AS j ON j.id = given.value
WHERE j.id IS NULL OR j.state NOT IN ('scheduled', 'pending', 'running', 'retrying');

-- name: attempts
-- The history, oldest first, as the table is ordered.
SELECT $attempt FROM mpdispatch_attempts WHERE job_id = ? ORDER BY starts;

-- name: counts
-- A failure that was enqueued again does not count. Scans indexes only, each in its order; reads no table row. A million entries: some 0.1 s.
SELECT queue, state, count(*) FROM mpdispatch_jobs WHERE completed_at_us IS NOT NULL GROUP BY state, queue
UNION ALL
SELECT queue, 'failed', -count(*) FROM mpdispatch_jobs
WHERE retried_as IS NOT NULL AND state = 'failed' GROUP BY queue
UNION ALL
SELECT queue, 'running', count(*) FROM mpdispatch_jobs WHERE owner IS NOT NULL GROUP BY owner, queue
UNION ALL
SELECT queue, 'pending', count(*) FROM mpdispatch_jobs WHERE lane = 1 GROUP BY queue
UNION ALL
SELECT queue, 'pending', count(*) FROM mpdispatch_jobs WHERE lane = 3 GROUP BY name, queue
UNION ALL
SELECT queue, 'pending', count(*) FROM mpdispatch_dependents GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM mpdispatch_jobs WHERE lane = 2 GROUP BY queue, state;

-- name: dead_letter_count
-- Open ones, by their partial index.
SELECT count(*) FROM mpdispatch_dead_letters WHERE closed_at_us IS NULL;

-- name: queues
-- Queues that were paused or limited, with or without jobs.
SELECT name, is_paused FROM mpdispatch_queues;

-- name: set_paused
-- Does not change the token bucket in the same row.
INSERT INTO mpdispatch_queues (name, is_paused) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET is_paused = excluded.is_paused;

-- name: cancel_waiting
-- A job that is not running ends at once.
UPDATE mpdispatch_jobs SET state = 'cancelled', lane = NULL, completed_at_us = ?, blocked_reason = NULL
WHERE id = ? AND state IN ('scheduled', 'pending', 'retrying');

-- name: cancel_running
-- Only its supervisor can end a running job. The time of the first request is kept.
UPDATE mpdispatch_jobs SET cancel_requested_us = coalesce(cancel_requested_us, ?)
WHERE id = ? AND state = 'running' AND owner IS NOT NULL;

-- name: run_now
-- A waiting job becomes due.
UPDATE mpdispatch_jobs SET state = 'pending', lane = 1, run_at_us = ?
WHERE id = ? AND state IN ('scheduled', 'retrying');

-- name: enqueue_again
-- The ended row does not change and keeps its idempotency key: a key names one row. Whoever asks for it again wants it
-- late, so it does not expire.
INSERT INTO mpdispatch_jobs (id, state, lane, run_at_us, created_at_us, retried_from, $copied, payload)
SELECT (SELECT id + 1 FROM mpdispatch_last_id), 'pending', 1, :now, :now, id, $copied, payload
FROM mpdispatch_jobs WHERE id = :id AND state IN ('failed', 'cancelled');

-- name: mark_retried
-- The old row changes in nothing else.
UPDATE mpdispatch_jobs SET retried_as = ? WHERE id = ?;

-- name: copy_payload
-- For a job enqueued again.
INSERT INTO mpdispatch_payloads (job_id, payload) SELECT ?, payload FROM mpdispatch_payloads WHERE job_id = ?;

-- name: replay_dead_letter
-- In the transaction that enqueues the job again. A purged one stays as it is.
UPDATE mpdispatch_dead_letters SET replayed_as = :new_id, closed_at_us = :now
WHERE job_id = :job_id AND closed_at_us IS NULL;

-- name: supervisors
-- All supervisors, dead or alive: the reader decides which are alive.
SELECT $supervisor FROM mpdispatch_supervisors ORDER BY id;
