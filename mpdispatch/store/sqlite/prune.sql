-- name: ended_places
-- Which states and queues jobs have ended in: a step of the index for each.
WITH RECURSIVE
states (state) AS (
    SELECT min(state) FROM mpdispatch_jobs WHERE completed_at_us IS NOT NULL
    UNION ALL
    SELECT (SELECT min(j.state) FROM mpdispatch_jobs AS j WHERE j.completed_at_us IS NOT NULL AND j.state > states.state)
    FROM states WHERE states.state IS NOT NULL
),
places (state, queue) AS (
    SELECT
        states.state,
        (
            SELECT min(j.queue) FROM mpdispatch_jobs AS j
            WHERE j.completed_at_us IS NOT NULL AND j.state = states.state
        )
    FROM states
    UNION ALL
    SELECT
        places.state,
        (
            SELECT min(j.queue) FROM mpdispatch_jobs AS j
            WHERE j.completed_at_us IS NOT NULL AND j.state = places.state AND j.queue > places.queue
        )
    FROM places WHERE places.queue IS NOT NULL
)
SELECT state, queue FROM places WHERE queue IS NOT NULL ORDER BY state, queue;

-- name: prunable
-- The first to have ended, by the index of ended jobs. A failed job stays as long as its dead letter is open.
SELECT id FROM (
    SELECT id FROM mpdispatch_jobs
    WHERE state = ? AND queue = ? AND completed_at_us < ? ORDER BY completed_at_us LIMIT ?
) AS ended
WHERE NOT EXISTS (
    SELECT 1 FROM mpdispatch_dead_letters AS d WHERE d.job_id = ended.id AND d.closed_at_us IS NULL
)
LIMIT ?;

-- name: prune_job
-- The guard: the job is still ended, and ended long enough ago.
DELETE FROM mpdispatch_jobs WHERE id = ? AND completed_at_us < ?;

-- name: prune_up_to
-- Keeps the highest deleted id, since an id is never used twice.
INSERT INTO mpdispatch_meta (key, value) VALUES ('pruned_up_to', ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER);

-- name: prune_payload
-- By its key.
DELETE FROM mpdispatch_payloads WHERE job_id = ?;

-- name: prune_result
-- By its key.
DELETE FROM mpdispatch_results WHERE job_id = ?;

-- name: prune_attempts
-- By its key.
DELETE FROM mpdispatch_attempt_rows WHERE job_id = ?;

-- name: prune_outputs
-- By its key.
DELETE FROM mpdispatch_outputs WHERE job_id = ?;

-- name: prune_dead_letter
-- By its key.
DELETE FROM mpdispatch_dead_letters WHERE job_id = ?;
