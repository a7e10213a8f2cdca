-- name: letters
-- One page; WHERE and ORDER are appended. The job itself is read by its own query. A letter is open until its
-- closed_at_us is set: it was replayed then, or it was purged and has no replayed_as. A purged one is left out.
SELECT job_id, failed_at_us, closed_at_us, replayed_as, id FROM mpdispatch_dead_letters

-- name: failures
-- The same with the error, as the query `jobs` finds it. For reading very many, row by row.
SELECT
    job_id, failed_at_us, closed_at_us, replayed_as, id, name,
    (
        SELECT coalesce(
            j.last_error,
            (
                SELECT a.error FROM mpdispatch_attempt_rows AS a
                WHERE a.job_id = j.id AND a.error IS NOT NULL
                ORDER BY a.starts DESC LIMIT 1
            )
        )
        FROM mpdispatch_jobs AS j WHERE j.id = job_id
    )
FROM mpdispatch_dead_letters

-- name: retriable
-- Which of these jobs may run again: those that wait for a later time, and those that have ended and were not enqueued
-- again. A failed one only while its dead letter is open.
SELECT j.id FROM mpdispatch_jobs AS j
WHERE j.id IN (SELECT value FROM json_each(?)) AND (
    j.state IN ('scheduled', 'retrying')
    OR (j.state = 'cancelled' AND j.retried_as IS NULL)
    OR EXISTS (SELECT 1 FROM mpdispatch_dead_letters AS d WHERE d.job_id = j.id AND d.closed_at_us IS NULL)
);

-- name: count_open
-- Open ones, by their partial index.
SELECT count(*) FROM mpdispatch_dead_letters WHERE closed_at_us IS NULL AND queue = ?;

-- name: retried_as
-- By its own unique index: whether an ended job was enqueued again already.
SELECT id FROM mpdispatch_jobs WHERE retried_from = ?;

-- name: purge_dead_letter
-- By primary key, a few hundred in a transaction. From now on nobody sees it. A replayed one keeps the time of its
-- replay, from which its job's retention runs.
UPDATE mpdispatch_dead_letters SET closed_at_us = coalesce(closed_at_us, ?), replayed_as = NULL
WHERE id = ? AND (closed_at_us IS NULL OR replayed_as IS NOT NULL);
