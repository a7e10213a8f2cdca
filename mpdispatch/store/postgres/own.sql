-- name: insert_job
-- The id comes from the sequence.
INSERT INTO mpdispatch_jobs (state, lane, run_at_us, created_at_us, expires_at_us, $new, payload)
VALUES (?, ?, ?, ?, ?, $new_values, ?)
RETURNING id;

-- name: enqueue_again
-- As SQLite's, with the next id of the sequence.
INSERT INTO mpdispatch_jobs (state, lane, run_at_us, created_at_us, retried_from, $copied, payload)
SELECT 'pending', 1, :now, :now, id, $copied, payload
FROM mpdispatch_jobs WHERE id = :id AND state IN ('failed', 'cancelled')

-- name: insert_dead_letter
-- UNIQUE by job: a job fails once.
INSERT INTO mpdispatch_dead_letters (job_id, name, queue, failed_at_us)
SELECT id, name, queue, ? FROM mpdispatch_jobs WHERE id = ?;

-- name: register
-- A new id each time: a supervisor that lost its lease can never write under its old id.
INSERT INTO mpdispatch_supervisors ($new_supervisor) VALUES ($new_supervisor_values)

-- name: insert_cron
-- With the next id of the sequence.
INSERT INTO mpdispatch_crons (
    name, spec, payload, origin, app, created_at_us, enabled_at_us, decided_until_us, next_slot_us
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: crons
-- As SQLite's: the open firings of each entry as JSON.
SELECT
    $cron,
    convert_to(c.spec, 'UTF8'),
    convert_to(c.payload, 'UTF8'),
    (
        SELECT coalesce(json_agg(json_build_array(o.slot_us, o.job_id, o.state, o.completed_at_us))::text, '[]')
        FROM (
            SELECT s.slot_us, s.job_id, coalesce(j.state, 'cancelled') AS state, j.completed_at_us
            FROM mpdispatch_cron_slots AS s LEFT JOIN mpdispatch_jobs AS j ON j.id = s.job_id
            WHERE s.cron_id = c.id AND s.is_open = 1
            ORDER BY s.slot_us LIMIT 1000
        ) AS o
    )
FROM mpdispatch_crons AS c

-- name: count_ended
-- `least` leaves out NULL.
UPDATE mpdispatch_batches SET
    completed = completed + :completed,
    failed = failed + :failed,
    cancelled = cancelled + :cancelled,
    started_at_us = least(started_at_us, :started_at_us)
WHERE id = :id
RETURNING $judged;

-- name: dependents_of
-- By the index of parents.
SELECT
    d.job_id,
    d.open_parents - count(*) FILTER (WHERE j.state = 'completed' OR d.on_parent_failure = 'run'),
    min(j.id) FILTER (WHERE j.state <> 'completed' AND d.on_parent_failure = 'cancel')
FROM mpdispatch_parents AS p
JOIN mpdispatch_dependents AS d ON d.job_id = p.job_id
JOIN mpdispatch_jobs AS j ON j.id = p.parent_id AND j.completed_at_us IS NOT NULL
WHERE p.parent_id = ANY(ARRAY(SELECT jsonb_array_elements_text(?::jsonb)::bigint))
GROUP BY d.job_id;

-- name: wait_for_the_retry
-- Whoever waits for the new job already keeps that pair; the other one says what it has waited for.
UPDATE mpdispatch_parents AS p SET parent_id = :new_id
WHERE p.parent_id = :old_id
    AND p.job_id IN (SELECT job_id FROM mpdispatch_dependents WHERE on_parent_failure = 'wait')
    AND NOT EXISTS (SELECT 1 FROM mpdispatch_parents AS n WHERE n.job_id = p.job_id AND n.parent_id = :new_id);

-- name: lost_dependents
-- Those whose parents have all ended, or that are in no lane of dependents.
SELECT max(job_id), count(*), coalesce((json_agg(job_id) FILTER (WHERE is_lost))::text, '[]')
FROM (
    SELECT
        d.job_id AS job_id,
        NOT EXISTS (SELECT 1 FROM mpdispatch_jobs AS j WHERE j.id = d.job_id AND j.lane = 4)
        OR NOT EXISTS (
            SELECT 1 FROM mpdispatch_parents AS p JOIN mpdispatch_jobs AS j ON j.id = p.parent_id
            WHERE p.job_id = d.job_id
                AND (j.completed_at_us IS NULL OR (j.state <> 'completed' AND d.on_parent_failure = 'wait'))
        ) AS is_lost
    FROM mpdispatch_dependents AS d WHERE d.job_id > ? ORDER BY d.job_id LIMIT ?
) AS found;

-- name: crons_with_history
-- A step of each key, as SQLite's.
WITH RECURSIVE entry (id) AS (
    SELECT least(
        (SELECT min(s.cron_id) FROM mpdispatch_cron_slots AS s WHERE s.cron_id > :after),
        (SELECT min(s.cron_id) FROM mpdispatch_cron_skips AS s WHERE s.cron_id > :after)
    )
    UNION ALL
    SELECT least(
        (SELECT min(s.cron_id) FROM mpdispatch_cron_slots AS s WHERE s.cron_id > entry.id),
        (SELECT min(s.cron_id) FROM mpdispatch_cron_skips AS s WHERE s.cron_id > entry.id)
    )
    FROM entry WHERE entry.id IS NOT NULL
)
SELECT entry.id, c.id IS NOT NULL, c.decided_until_us
FROM entry LEFT JOIN mpdispatch_crons AS c ON c.id = entry.id
WHERE entry.id IS NOT NULL LIMIT :limit;

-- name: ended_queues
-- A step of the index for each. Text is in the order of its bytes.
WITH RECURSIVE place (queue) AS (
    SELECT min(queue) FROM mpdispatch_jobs
    WHERE completed_at_us IS NOT NULL AND state = :state AND queue > :after::text
    UNION ALL
    SELECT (
        SELECT min(j.queue) FROM mpdispatch_jobs AS j
        WHERE j.completed_at_us IS NOT NULL AND j.state = :state AND j.queue > place.queue
    )
    FROM place WHERE place.queue IS NOT NULL
)
SELECT convert_to(queue, 'UTF8') FROM place WHERE queue IS NOT NULL LIMIT :limit;

-- name: queues_with_due
-- A seek per queue.
SELECT q.value FROM jsonb_array_elements_text(?::jsonb) AS q (value)
WHERE EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 1 AND queue = q.value);

-- name: parked_pairs
-- Steps from name to name, as SQLite's.
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM mpdispatch_jobs WHERE lane = 3
    UNION ALL
    SELECT (SELECT min(j.name) FROM mpdispatch_jobs AS j WHERE j.lane = 3 AND j.name > names.name)
    FROM names WHERE names.name IS NOT NULL
)
SELECT names.name, q.value FROM names CROSS JOIN jsonb_array_elements_text(?::jsonb) AS q (value)
WHERE names.name IS NOT NULL AND EXISTS (
    SELECT 1 FROM mpdispatch_jobs AS j WHERE j.lane = 3 AND j.name = names.name AND j.queue = q.value
);

-- name: next_due
-- Two seeks per polled queue.
SELECT min(
    (
        SELECT j.run_at_us FROM mpdispatch_jobs AS j
        WHERE j.lane = 2 AND j.queue = q.value AND j.state = s.state
        ORDER BY j.run_at_us, j.id LIMIT 1
    )
)
FROM jsonb_array_elements_text(?::jsonb) AS q (value), (VALUES ('scheduled'), ('retrying')) AS s (state);

-- name: bucket
-- By the server's clock, whatever host asks: the id of a boot does not count.
SELECT tat_us FROM mpdispatch_queues WHERE name = ? AND ?::text IS NOT NULL AND tat_boot_id = 'server';

-- name: charge
-- The same.
INSERT INTO mpdispatch_queues (name, tat_us, tat_boot_id) SELECT ?, ?::bigint, 'server' WHERE ?::text IS NOT NULL
ON CONFLICT (name) DO UPDATE SET tat_us = excluded.tat_us, tat_boot_id = excluded.tat_boot_id;

-- name: queue_state
-- The same.
SELECT
    (SELECT is_paused FROM mpdispatch_queues WHERE name = :queue),
    (SELECT count(*) FROM mpdispatch_jobs WHERE owner IS NOT NULL AND queue = :queue),
    (
        SELECT tat_us FROM mpdispatch_queues
        WHERE name = :queue AND tat_boot_id = 'server' AND :boot_id::text IS NOT NULL
    );

-- name: lock_parents
-- On a connection of the caller's, whose transaction may last: until it ends, none of these jobs ends.
SELECT id FROM mpdispatch_jobs WHERE id = ANY(ARRAY(SELECT jsonb_array_elements_text(?::jsonb)::bigint))
ORDER BY id FOR SHARE;

-- name: finish
-- Every outcome that is recorded by itself, see SQLite's for its values.
UPDATE mpdispatch_jobs AS j SET
    state = CASE WHEN cancel_requested_us IS NOT NULL AND NOT ?::boolean THEN 'cancelled' ELSE ? END,
    lane = CASE WHEN cancel_requested_us IS NULL THEN ?::bigint END,
    completed_at_us = CASE WHEN cancel_requested_us IS NOT NULL OR ?::boolean THEN ?::bigint END,
    cancel_requested_us = NULL,
    owner = NULL,
    attempt = ?,
    run_at_us = coalesce(?::bigint, run_at_us),
    expires_at_us = CASE WHEN NOT ?::boolean THEN expires_at_us END,
    started_at_us = coalesce(
        ?::bigint,
        (
            SELECT a.started_at_us FROM mpdispatch_attempt_rows AS a
            WHERE a.job_id = j.id ORDER BY a.starts DESC LIMIT 1
        )
    ),
    result = ?,
    last_error = CASE WHEN ?::boolean THEN ?::text ELSE last_error END,
    worker_pid = ?,
    cpu_us = ?,
    max_rss_bytes = ?
WHERE id = ? AND owner = ? AND starts = ? AND state = 'running';

-- name: write_output
-- Guarded like an outcome: only output of this owner's running start.
INSERT INTO mpdispatch_outputs AS o (job_id, starts, stream, written, text)
SELECT id, starts, ?::text, ?::bigint, ?::text FROM mpdispatch_jobs
WHERE id = ? AND owner = ? AND starts = ? AND state = 'running'
ON CONFLICT (job_id, starts, stream) DO UPDATE SET written = excluded.written, text = excluded.text;
