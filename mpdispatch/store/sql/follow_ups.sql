-- name: has_followers
-- Whether the end of a job may concern anything else: two seeks, in every transaction that ends jobs.
SELECT
    EXISTS (SELECT 1 FROM mpdispatch_batches WHERE ended_at_us IS NULL),
    EXISTS (SELECT 1 FROM mpdispatch_dependents);

-- name: ended_members
-- By primary key: which batches these jobs are members of, and how many of each ended in which state.
SELECT batch_id, state, count(*), min(started_at_us) FROM mpdispatch_jobs
WHERE id IN (SELECT value FROM json_each(?)) AND batch_id IS NOT NULL AND completed_at_us IS NOT NULL
GROUP BY batch_id, state;

-- name: count_ended
-- What a batch needs to be judged comes back with it. The limits are for numbers that another program wrote.
UPDATE mpdispatch_batches SET
    completed = min(completed + :completed, 1 << 62),
    failed = min(failed + :failed, 1 << 62),
    cancelled = min(cancelled + :cancelled, 1 << 62),
    started_at_us = coalesce(min(started_at_us, :started_at_us), started_at_us, :started_at_us)
WHERE id = :id
RETURNING $judged;

-- name: judged_batch
-- The same of a batch as it is.
SELECT $judged FROM mpdispatch_batches WHERE id = ?;

-- name: end_batch
-- Once only: a batch that has ended is not ended again.
UPDATE mpdispatch_batches SET ended_at_us = ? WHERE id = ? AND ended_at_us IS NULL;

-- name: open_callbacks
-- By the key: what is still to be enqueued at the events of a batch.
SELECT event, job FROM mpdispatch_callbacks WHERE batch_id = ? AND job_id IS NULL;

-- name: called_back
-- Exactly once: the job's insert is undone if this touches no row.
UPDATE mpdispatch_callbacks SET job_id = ? WHERE batch_id = ? AND event = ? AND job_id IS NULL;

-- name: mark_cancelled
-- From now on it takes no members, and the waiting ones are to be cancelled.
UPDATE mpdispatch_batches SET cancelled_at_us = coalesce(cancelled_at_us, ?), cancelling_before = 1 << 62
WHERE id = ? AND ended_at_us IS NULL;

-- name: cancel_before
-- Where the next step goes on; NULL: no member waits any more.
UPDATE mpdispatch_batches SET cancelling_before = ? WHERE id = ?;

-- name: cancelling_batch
-- By a partial index that is nearly always empty: this batch or any.
SELECT id, cancelling_before FROM mpdispatch_batches
WHERE cancelling_before IS NOT NULL AND id = coalesce(:id, id) LIMIT 1;

-- name: last_members
-- By the index of members, backwards: the next ones before a given id, and whether each waits. Jobs enqueued last are
-- the likeliest to wait.
SELECT id, lane IS NOT NULL FROM mpdispatch_jobs
WHERE batch_id = :id AND id < :before ORDER BY id DESC LIMIT :limit;

-- name: cancel_these
-- Whichever lane each waits in; not one whose row contradicts that.
UPDATE mpdispatch_jobs SET
    state = 'cancelled', lane = NULL, blocked_reason = NULL, completed_at_us = ?, expires_at_us = NULL
WHERE id IN (SELECT value FROM json_each(?)) AND lane IS NOT NULL AND +owner IS NULL AND +completed_at_us IS NULL
    AND +state IN ('scheduled', 'pending', 'retrying')
RETURNING id;

-- name: cancel_running_members
-- By the index of running jobs, which are few. Their supervisors end them.
UPDATE mpdispatch_jobs SET cancel_requested_us = ?
WHERE owner IS NOT NULL AND +batch_id = ? AND cancel_requested_us IS NULL;

-- name: dependents_of
-- By the index of parents: the jobs that wait for these, once they have ended; how many parents each still waits for; and
-- the parent that is to blame, if it is to be cancelled.
SELECT
    d.job_id,
    d.open_parents - count(*) FILTER (WHERE j.state = 'completed' OR d.on_parent_failure = 'run'),
    min(j.id) FILTER (WHERE j.state <> 'completed' AND d.on_parent_failure = 'cancel')
FROM json_each(?) AS ended
CROSS JOIN mpdispatch_parents AS p ON p.parent_id = ended.value
CROSS JOIN mpdispatch_dependents AS d ON d.job_id = p.job_id
CROSS JOIN mpdispatch_jobs AS j ON j.id = p.parent_id AND j.completed_at_us IS NOT NULL
GROUP BY d.job_id;

-- name: ended_states
-- By primary key.
SELECT id, state FROM mpdispatch_jobs WHERE id IN (SELECT value FROM json_each(?)) AND completed_at_us IS NOT NULL;

-- name: wait_for_fewer
-- Some parents have ended, not all.
UPDATE mpdispatch_dependents SET open_parents = ? WHERE job_id = ?;

-- name: forget_dependents
-- They wait for no parent any more: due, or ended.
DELETE FROM mpdispatch_dependents WHERE job_id IN (SELECT value FROM json_each(?));

-- name: all_parents_ended
-- It keeps its priority and its run_at, and so its place. A row that contradicts itself is left for whoever looks for
-- such rows: another program wrote it.
UPDATE mpdispatch_jobs SET
    state = CASE WHEN run_at_us > :now THEN 'scheduled' ELSE 'pending' END,
    lane = CASE WHEN run_at_us > :now THEN 2 ELSE 1 END
WHERE id IN (SELECT value FROM json_each(:ids)) AND $waits_for_parents;

-- name: parent_failed
-- With the reason as its last error. Of rows that contradict themselves, see above.
UPDATE mpdispatch_jobs SET
    state = 'cancelled', lane = NULL, completed_at_us = ?, last_error = ?, expires_at_us = NULL
WHERE id = ? AND $waits_for_parents;

-- name: parents_states
-- Of a new job: which of its parents are there, how each stands, what has taken the place of a failed one, and when
-- each was made.
SELECT id, state, retried_as, created_at_us FROM mpdispatch_jobs WHERE id IN (SELECT value FROM json_each(?));

-- name: insert_parent
-- One for each pair.
INSERT OR IGNORE INTO mpdispatch_parents (job_id, parent_id, on_parent_failure) VALUES (?, ?, ?);

-- name: insert_dependent
-- With its job, in lane 4.
INSERT INTO mpdispatch_dependents (job_id, queue, open_parents, on_parent_failure) VALUES (?, ?, ?, ?);

-- name: wait_in_lane_4
-- A new job is inserted as a due or a scheduled one.
UPDATE mpdispatch_jobs SET state = 'pending', lane = 4 WHERE id = ?;

-- name: wait_for_the_retry
-- Whoever still waits for a parent that failed waits for the job that takes its place.
UPDATE OR IGNORE mpdispatch_parents SET parent_id = :new_id
WHERE parent_id = :old_id
    AND job_id IN (SELECT job_id FROM mpdispatch_dependents WHERE on_parent_failure = 'wait');

-- name: parents
-- By the key, with the state of each that is still there.
SELECT p.parent_id, j.state FROM mpdispatch_parents AS p LEFT JOIN mpdispatch_jobs AS j ON j.id = p.parent_id
WHERE p.job_id = ? ORDER BY p.parent_id;

-- name: waited_for
-- By the key: the parents of a job that is enqueued again, and its queue.
SELECT p.parent_id, p.on_parent_failure, j.queue FROM mpdispatch_parents AS p JOIN mpdispatch_jobs AS j ON j.id = p.job_id
WHERE p.job_id = ?;

-- name: policy_of
-- By the key: of a job that waits for others.
SELECT on_parent_failure FROM mpdispatch_dependents WHERE job_id = ?;

-- name: dependents_count
-- By the index of parents: how many jobs wait for this one, and how many wait or have waited.
SELECT count(d.job_id), count(*)
FROM mpdispatch_parents AS p LEFT JOIN mpdispatch_dependents AS d ON d.job_id = p.job_id
WHERE p.parent_id = ?;

-- name: cancelled_jobs
-- The columns of a ClaimedJob but for the payload, and why.
SELECT id, starts, attempt, $claimed, last_error FROM mpdispatch_jobs
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'cancelled';

-- name: lost_dependents
-- Of the next dependents by id: the last one, and those that are in no lane of dependents, or whose parents have all
-- ended: nothing would release them.
SELECT max(job_id), count(*), json_group_array(job_id) FILTER (WHERE is_lost)
FROM (
    SELECT
        d.job_id AS job_id,
        NOT EXISTS (SELECT 1 FROM mpdispatch_jobs AS j WHERE j.id = d.job_id AND j.lane = 4)
        OR NOT EXISTS (
            SELECT 1 FROM mpdispatch_parents AS p CROSS JOIN mpdispatch_jobs AS j ON j.id = p.parent_id
            WHERE p.job_id = d.job_id
                AND (j.completed_at_us IS NULL OR (j.state <> 'completed' AND d.on_parent_failure = 'wait'))
        ) AS is_lost
    FROM mpdispatch_dependents AS d WHERE d.job_id > ? ORDER BY d.job_id LIMIT ?
);

-- name: without_dependent
-- For examining the store: reads all rows.
SELECT id FROM mpdispatch_jobs
WHERE lane = 4 AND NOT EXISTS (SELECT 1 FROM mpdispatch_dependents AS d WHERE d.job_id = id) ORDER BY id;

-- name: is_in_lane_4
-- By primary key: the queue of a job that waits for parents.
SELECT queue FROM mpdispatch_jobs WHERE id = ? AND $waits_for_parents;
