-- name: prunable
-- Ended jobs of one state, oldest id first, read lazily from the index of ended rows. A failed job stays as long as
-- its dead letter is open.
SELECT id, created_at_us, completed_at_us FROM mpdispatch_jobs AS j
WHERE state < 'g' AND state = ?
    AND NOT EXISTS (
        SELECT 1 FROM mpdispatch_dead_letters AS d WHERE d.job_id = j.id AND d.replayed_at_us IS NULL
    )
ORDER BY id;

-- name: prune_job
-- The guard: the job is still ended, and ended long enough ago.
DELETE FROM mpdispatch_jobs WHERE id = ? AND state < 'g' AND completed_at_us < ?;

-- name: prune_up_to
-- Keeps the highest deleted id, since an id is never used twice.
INSERT INTO mpdispatch_meta (key, value) VALUES ('pruned_up_to', ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER);

-- name: prune_payload
DELETE FROM mpdispatch_payloads WHERE job_id = ?;

-- name: prune_result
DELETE FROM mpdispatch_results WHERE job_id = ?;

-- name: prune_attempts
DELETE FROM mpdispatch_attempt_rows WHERE job_id = ?;

-- name: prune_outputs
DELETE FROM mpdispatch_outputs WHERE job_id = ?;

-- name: prune_dead_letter
DELETE FROM mpdispatch_dead_letters WHERE job_id = ?;
