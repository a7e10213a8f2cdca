-- name: open_batch
-- Its key is not in use.
INSERT INTO mpdispatch_batches (name, key, max_fails, max_fail_share, created_at_us) VALUES (?, ?, ?, ?, ?);

-- name: batch_of_key
-- By its unique index.
SELECT id FROM mpdispatch_batches WHERE key = ?;

-- name: insert_callback
-- With its batch.
INSERT INTO mpdispatch_callbacks (batch_id, event, name, job) VALUES (?, ?, ?, ?);

-- name: add_members
-- Touches no row if the batch is closed or was cancelled.
UPDATE mpdispatch_batches SET total = total + ? WHERE id = ? AND is_open = 1 AND cancelled_at_us IS NULL;

-- name: close_batch
-- It may be closed already.
UPDATE mpdispatch_batches SET is_open = 0 WHERE id = ?;

-- name: batches
-- All columns of a BatchInfo; WHERE and ORDER are appended.
SELECT $batch FROM mpdispatch_batches

-- name: callbacks_of
-- By the key.
SELECT batch_id, event, name, job_id FROM mpdispatch_callbacks WHERE batch_id IN (SELECT value FROM json_each(?));

-- name: running_members
-- By the index of running jobs, which are few.
SELECT batch_id, count(*), min(started_at_us) FROM mpdispatch_jobs
WHERE owner IS NOT NULL AND +batch_id IS NOT NULL GROUP BY +batch_id;

-- name: has_later_members
-- Nearly always nothing: then no member is counted.
SELECT EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 2);

-- name: later_members
-- Reads the members of these batches, for people: 0.1 s for 100,000.
SELECT batch_id, state, count(*) FROM mpdispatch_jobs
WHERE batch_id IN (SELECT value FROM json_each(?)) AND +lane = 2 GROUP BY batch_id, state;

-- name: members
-- By the index of members, in order of ids.
SELECT
    j.id, j.state, CAST(coalesce(j.payload, p.payload) AS BLOB), CAST(coalesce(j.result, r.result) AS BLOB),
    j.retried_as
FROM mpdispatch_jobs AS j
LEFT JOIN mpdispatch_payloads AS p ON p.job_id = j.id
LEFT JOIN mpdispatch_results AS r ON r.job_id = j.id
WHERE j.batch_id = ? AND j.id > ? ORDER BY j.id LIMIT ?;

-- name: failed_members
-- The next failed members after a given id that were not enqueued again.
SELECT j.id FROM mpdispatch_jobs AS j
WHERE j.batch_id = :id AND j.id > :after AND +j.state = 'failed' AND j.retried_as IS NULL
ORDER BY j.id LIMIT :limit;

-- name: retry_member
-- Its place goes to the new job, so one member fewer has ended. If its place had gone to another job before, which is
-- pruned by now, there is one member more instead. A batch that was cancelled takes members again.
UPDATE mpdispatch_batches SET
    total = total + :is_retried,
    failed = failed - CASE WHEN :is_retried = 0 AND :state = 'failed' THEN 1 ELSE 0 END,
    cancelled = cancelled - CASE WHEN :is_retried = 0 AND :state = 'cancelled' THEN 1 ELSE 0 END,
    ended_at_us = NULL,
    cancelled_at_us = CASE WHEN cancelling_before IS NOT NULL THEN cancelled_at_us END
WHERE id = :id;

-- name: member_of
-- By primary key.
SELECT batch_id, state, retried_as IS NOT NULL FROM mpdispatch_jobs WHERE id = ?;
