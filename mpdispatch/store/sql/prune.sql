-- name: ended_queues
-- Queues that jobs have ended in with this state, after a given one: a step of the index for each. As bytes: another
-- program may have written text that is not UTF-8.
WITH RECURSIVE place (queue) AS (
    SELECT min(queue) FROM mpdispatch_jobs
    WHERE completed_at_us IS NOT NULL AND state = :state AND queue > CAST(:after AS TEXT)
    UNION ALL
    SELECT (
        SELECT min(j.queue) FROM mpdispatch_jobs AS j
        WHERE j.completed_at_us IS NOT NULL AND j.state = :state AND j.queue > place.queue
    )
    FROM place WHERE place.queue IS NOT NULL
)
SELECT CAST(queue AS BLOB) FROM place WHERE queue IS NOT NULL LIMIT :limit;

-- name: ended_jobs
-- Those of a state and queue in the order in which they ended, between two places: when, id, id, whether it may be
-- deleted. By the index alone. A job of a cron entry stays until a decision has seen its end, a parent until its
-- dependents have ended.
SELECT
    j.completed_at_us, j.id, j.id,
    j.completed_at_us < :ended_before AND NOT $has_open_firing AND NOT $has_dependent
FROM mpdispatch_jobs AS j
WHERE j.state = :state AND j.queue = CAST(:queue AS TEXT)
    AND j.completed_at_us >= :at AND (j.completed_at_us > :at OR j.id > :id)
    AND j.completed_at_us <= :before_at AND (j.completed_at_us < :before_at OR j.id < :before_id)
ORDER BY j.completed_at_us, j.id LIMIT :limit;

-- name: closed_jobs
-- The same of failed jobs in the order in which their dead letters were replayed or purged; open ones are not read. A
-- letter without a job, which another program deleted, goes too.
SELECT
    d.closed_at_us, d.id, d.job_id,
    j.id IS NULL OR (
        j.completed_at_us < :ended_before AND NOT $has_open_firing AND NOT $has_dependent
    )
FROM mpdispatch_dead_letters AS d LEFT JOIN mpdispatch_jobs AS j ON j.id = d.job_id
WHERE d.closed_at_us >= :at AND (d.closed_at_us > :at OR d.id > :id)
    AND d.closed_at_us <= :before_at AND (d.closed_at_us < :before_at OR d.id < :before_id)
ORDER BY d.closed_at_us, d.id LIMIT :limit;

-- name: ended_before
-- Backwards by the index alone: the place that is some number of jobs earlier than this one.
SELECT completed_at_us, id FROM mpdispatch_jobs
WHERE state = :state AND queue = CAST(:queue AS TEXT)
    AND completed_at_us <= :at AND (completed_at_us < :at OR id < :id)
ORDER BY completed_at_us DESC, id DESC LIMIT 1 OFFSET :skip;

-- name: closed_before
-- The same of failed jobs.
SELECT closed_at_us, id FROM mpdispatch_dead_letters
WHERE closed_at_us <= :at AND (closed_at_us < :at OR id < :id)
ORDER BY closed_at_us DESC, id DESC LIMIT 1 OFFSET :skip;

-- name: open_failed
-- For people: failed jobs that stay because their dead letters are open.
SELECT count(*) FROM mpdispatch_dead_letters WHERE closed_at_us IS NULL AND failed_at_us < ?;

-- name: prune_jobs
-- The guard: the job is still ended, and no job was enqueued meanwhile that may read its result.
DELETE FROM mpdispatch_jobs AS j
WHERE j.id IN (SELECT value FROM json_each(?)) AND j.completed_at_us IS NOT NULL AND NOT $has_dependent RETURNING id;

-- name: prune_up_to
-- Keeps the highest deleted id, since an id is never used twice.
INSERT INTO mpdispatch_meta (key, value) VALUES ('pruned_up_to', ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE CAST(mpdispatch_meta.value AS INTEGER) < CAST(excluded.value AS INTEGER);

-- name: prune_payloads
-- By their key.
DELETE FROM mpdispatch_payloads WHERE job_id IN (SELECT value FROM json_each(?));

-- name: prune_results
-- By their key.
DELETE FROM mpdispatch_results WHERE job_id IN (SELECT value FROM json_each(?));

-- name: prune_attempts
-- By their key.
DELETE FROM mpdispatch_attempt_rows WHERE job_id IN (SELECT value FROM json_each(?));

-- name: prune_outputs
-- By their key.
DELETE FROM mpdispatch_outputs WHERE job_id IN (SELECT value FROM json_each(?));

-- name: prune_parents
-- By their key: what the job has waited for.
DELETE FROM mpdispatch_parents WHERE job_id IN (SELECT value FROM json_each(?));

-- name: prune_dead_letters
-- By their key, those whose jobs are gone.
DELETE FROM mpdispatch_dead_letters
WHERE job_id IN (SELECT value FROM json_each(?))
    AND NOT EXISTS (SELECT 1 FROM mpdispatch_jobs AS j WHERE j.id = mpdispatch_dead_letters.job_id);

-- name: old_batches
-- By the key: the next batches after a given one that were made before a moment, and whether each may be deleted: it
-- ended before then, and no member is left.
SELECT
    b.id, b.created_at_us < :before,
    b.ended_at_us < :before AND NOT EXISTS (SELECT 1 FROM mpdispatch_jobs AS j WHERE j.batch_id = b.id)
FROM mpdispatch_batches AS b WHERE b.id > :after ORDER BY b.id LIMIT :limit;

-- name: prune_batches
-- It is still so: a member may have been enqueued again.
DELETE FROM mpdispatch_batches AS b
WHERE b.id IN (SELECT value FROM json_each(?)) AND b.ended_at_us IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM mpdispatch_jobs AS j WHERE j.batch_id = b.id)
RETURNING id;

-- name: prune_callbacks
-- By their key, with their batches.
DELETE FROM mpdispatch_callbacks WHERE batch_id IN (SELECT value FROM json_each(?));

-- name: crons_with_history
-- Entries after a given one that have slots or skips, deleted ones too: a step of each key. With each: whether it is
-- there, and up to when it has decided.
WITH RECURSIVE entry (id) AS (
    SELECT min(id) FROM (
        SELECT min(cron_id) AS id FROM mpdispatch_cron_slots WHERE cron_id > :after
        UNION ALL
        SELECT min(cron_id) FROM mpdispatch_cron_skips WHERE cron_id > :after
    ) AS first
    UNION ALL
    SELECT min(
        coalesce((SELECT min(s.cron_id) FROM mpdispatch_cron_slots AS s WHERE s.cron_id > entry.id), 1 << 62),
        coalesce((SELECT min(s.cron_id) FROM mpdispatch_cron_skips AS s WHERE s.cron_id > entry.id), 1 << 62)
    )
    FROM entry WHERE entry.id < 1 << 62
)
SELECT entry.id, c.id IS NOT NULL, c.decided_until_us
FROM entry LEFT JOIN mpdispatch_crons AS c ON c.id = entry.id
WHERE entry.id < 1 << 62 LIMIT :limit;

-- name: nth_last_slot
-- By the key.
SELECT slot_us FROM mpdispatch_cron_slots WHERE cron_id = :cron_id ORDER BY slot_us DESC LIMIT 1 OFFSET :skip;

-- name: nth_last_skip
-- By the key.
SELECT first_us FROM mpdispatch_cron_skips WHERE cron_id = :cron_id ORDER BY first_us DESC LIMIT 1 OFFSET :skip;

-- name: old_slots
-- By the key: the next slots of an entry, and whether each may be deleted. Few may not: open ones, and those that were
-- caught up late.
SELECT slot_us, fired_at_us, fired_at_us < :before AND is_open IS NULL FROM mpdispatch_cron_slots
WHERE cron_id = :cron_id AND slot_us > :after AND slot_us < :until AND slot_us < :before
ORDER BY slot_us LIMIT :limit;

-- name: old_skips
-- The same of skips.
SELECT first_us, at_us, at_us < :before AND last_us < :until FROM mpdispatch_cron_skips
WHERE cron_id = :cron_id AND first_us > :after AND first_us < :until AND first_us < :before
ORDER BY first_us LIMIT :limit;

-- name: prune_slot
-- By the key, if it is not open.
DELETE FROM mpdispatch_cron_slots WHERE cron_id = :cron_id AND slot_us = :slot AND is_open IS NULL;

-- name: prune_skip
-- By the key.
DELETE FROM mpdispatch_cron_skips WHERE cron_id = :cron_id AND first_us = :slot AND at_us = :at;
