-- name: register
-- A new id each time: a supervisor that lost its lease can never write under its old id. If SQLite has no id left
-- (see insert_dead_letter), the id is the time of its start, which is above every id given before.
INSERT INTO mpdispatch_supervisors ($supervisor)
VALUES (
    CASE
        WHEN max(
            coalesce((SELECT max(id) FROM mpdispatch_supervisors), 0),
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_supervisors'), 0)
        ) >= 1 << 62
        THEN max(:started_us, coalesce((SELECT max(id) FROM mpdispatch_supervisors WHERE id < 1 << 62), 0) + 1)
    END,
    $new_supervisor_values
);

-- name: probe
-- In every write transaction of a supervisor: is it registered, and does any rare condition hold? One query instead
-- of six.
SELECT
    EXISTS (SELECT 1 FROM mpdispatch_supervisors WHERE id = ?),
    EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 2),
    EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 3),
    EXISTS (SELECT 1 FROM mpdispatch_queues WHERE is_paused = 1),
    EXISTS (SELECT 1 FROM mpdispatch_batches WHERE ended_at_us IS NULL)
    OR EXISTS (SELECT 1 FROM mpdispatch_dependents),
    EXISTS (SELECT 1 FROM mpdispatch_batches WHERE cancelling_before IS NOT NULL);

-- name: unregister
-- Its jobs are finished, released or taken over by then.
DELETE FROM mpdispatch_supervisors WHERE id = ?;

-- name: renew
-- One write renews the lease of every job of this owner.
UPDATE mpdispatch_supervisors SET heartbeat_us = ?, lease_until_wall_us = ?, lease_until_boot_us = ? WHERE id = ?;

-- name: owned
-- By the running index; a few hundred rows at most.
SELECT id, starts FROM mpdispatch_jobs WHERE owner = ?;

-- name: held_by
-- By the running index, from the head of each row: payloads are not read.
SELECT id, starts, name FROM mpdispatch_jobs WHERE owner = ?;

-- name: cancel_requests
-- By a partial index that is nearly always empty.
SELECT id, starts FROM mpdispatch_jobs WHERE cancel_requested_us IS NOT NULL AND +owner = ?;

-- name: has_late_cancels
-- The oldest request comes first, and few requests are for running jobs.
SELECT EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE cancel_requested_us IS NOT NULL AND +owner IS NULL);

-- name: cancel_requests_of
-- As cancel_requests, but by the owner's jobs: for use while there are many late requests.
SELECT id, starts FROM mpdispatch_jobs WHERE owner = ? AND +cancel_requested_us IS NOT NULL;

-- name: forget_late_cancels
-- Not visible to users: the ended job was not cancelled.
UPDATE mpdispatch_jobs SET cancel_requested_us = NULL
WHERE id IN (SELECT id FROM mpdispatch_jobs WHERE cancel_requested_us IS NOT NULL AND +owner IS NULL LIMIT ?);

-- name: waits
-- Waiting jobs in due order, with the end of their last start; continues after a given job.
SELECT
    j.id, j.run_at_us,
    (SELECT a.finished_at_us FROM mpdispatch_attempt_rows AS a WHERE a.job_id = j.id AND a.starts = j.starts)
FROM mpdispatch_jobs AS j
WHERE j.lane = 2 AND j.queue = ? AND j.state = ? AND j.run_at_us >= ? AND (j.run_at_us > ? OR j.id > ?)
ORDER BY j.run_at_us, j.id LIMIT ?;

-- name: rebase_wait
-- Unless it has been claimed, moved or ended since.
UPDATE mpdispatch_jobs SET run_at_us = ? WHERE id = ? AND +lane = 2 AND run_at_us = ?;

-- name: supervisor
-- For checking whether it has renewed since the last read.
SELECT $supervisor FROM mpdispatch_supervisors WHERE id = ?;

-- name: unknown_owners
-- One step of the running index per owner, however many jobs each has.
WITH RECURSIVE walk (owner) AS (
    SELECT min(owner) FROM mpdispatch_jobs WHERE owner IS NOT NULL
    UNION ALL
    SELECT (SELECT min(owner) FROM mpdispatch_jobs WHERE owner > walk.owner) FROM walk WHERE walk.owner IS NOT NULL
)
SELECT owner FROM walk
WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM mpdispatch_supervisors WHERE id = walk.owner);

-- name: jobs_of
-- The running jobs of a supervisor, as they were claimed.
SELECT id, starts, attempt, $claimed, coalesce(CAST(coalesce(j.payload, p.payload) AS BLOB), x'')
FROM mpdispatch_jobs AS j LEFT JOIN mpdispatch_payloads AS p ON p.job_id = j.id
WHERE j.owner = ? ORDER BY j.id;

-- name: paused
-- Always few rows: only queues that were paused or limited.
SELECT name FROM mpdispatch_queues WHERE is_paused = 1;

-- name: bucket
-- Boottime means nothing in another boot.
SELECT tat_us FROM mpdispatch_queues WHERE name = ? AND tat_boot_id = ?;

-- name: charge
-- A bucket of another boot is overwritten: boottime begins anew.
INSERT INTO mpdispatch_queues (name, tat_us, tat_boot_id) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET tat_us = excluded.tat_us, tat_boot_id = excluded.tat_boot_id;

-- name: running_in
-- Over all supervisors; scans the running index only.
SELECT count(*) FROM mpdispatch_jobs WHERE owner IS NOT NULL AND queue = ?;

-- name: due
-- The core of a claim: read lazily in the order of claiming, which is the index's; no sort. One arm of a
-- compound SELECT, see candidates.py. The columns are those of the future ClaimedJob.
SELECT id, starts + 1, attempt + 1, $claimed, CAST(payload AS BLOB) FROM mpdispatch_jobs WHERE lane = 1 AND queue = ?;

-- name: due_limited
-- The same for a limited queue: reads no more rows than the limit (and sorts them again).
SELECT * FROM (
    SELECT id, starts + 1, attempt + 1, $claimed, CAST(payload AS BLOB) FROM mpdispatch_jobs WHERE lane = 1 AND queue = ?
    ORDER BY priority DESC, run_at_us, id LIMIT ?
) AS arm;

-- name: parked
-- The same for the parked jobs of one name.
SELECT * FROM (
    SELECT id, starts + 1, attempt + 1, $claimed, CAST(payload AS BLOB) FROM mpdispatch_jobs WHERE lane = 3 AND name = ? AND queue = ?
    ORDER BY priority DESC, run_at_us, id LIMIT ?
) AS arm;

-- name: payload
-- For the few claimed jobs with a large payload.
SELECT CAST(payload AS BLOB) FROM mpdispatch_payloads WHERE job_id = ?;

-- name: queues_with_due
-- Before the write lock is taken: a seek per queue.
SELECT q.value FROM json_each(?) AS q
WHERE EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 1 AND queue = q.value);

-- name: parked_pairs
-- Names with parked jobs in these queues. Steps from name to name: with a million parked jobs of one name it
-- reads two index entries, and one per queue.
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM mpdispatch_jobs WHERE lane = 3
    UNION ALL
    SELECT (SELECT min(j.name) FROM mpdispatch_jobs AS j WHERE j.lane = 3 AND j.name > names.name)
    FROM names WHERE names.name IS NOT NULL
)
SELECT names.name, q.value FROM names CROSS JOIN json_each(?) AS q
WHERE names.name IS NOT NULL AND EXISTS (
    SELECT 1 FROM mpdispatch_jobs AS j WHERE j.lane = 3 AND j.name = names.name AND j.queue = q.value
);

-- name: park
-- The job leaves the due index, so it is refused once and not at every claim.
UPDATE mpdispatch_jobs SET blocked_reason = ?, lane = 3 WHERE id = ? AND state = 'pending';

-- name: take
-- All first starts of a claim in one statement: there are no values of an earlier start to clear. The claiming
-- statement itself counts the attempt.
UPDATE mpdispatch_jobs SET
    state = 'running', lane = NULL, owner = ?, starts = starts + 1, attempt = attempt + 1, started_at_us = ?
WHERE id IN (SELECT value FROM json_each(?)) AND +lane = 1 AND starts = 0 AND id > 0;

-- name: take_again
-- The other claimed jobs: started before, or parked.
UPDATE mpdispatch_jobs SET
    state = 'running', lane = NULL, owner = ?, starts = starts + 1, attempt = attempt + 1, started_at_us = ?,
    worker_pid = NULL, cpu_us = NULL, max_rss_bytes = NULL, blocked_reason = NULL, progress = NULL
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND id > 0;

-- name: is_any_expired
-- By the index of expiring jobs, which holds nothing in a store where no job expires. Running jobs stand in it, too.
SELECT EXISTS (
    SELECT 1 FROM mpdispatch_jobs WHERE expires_at_us <= ?
        AND (completed_at_us IS NOT NULL OR state IN ('scheduled', 'pending', 'retrying'))
);

-- name: expired_waiting
-- The columns of a ClaimedJob but for the payload, as the row has them.
SELECT id, starts, attempt, $claimed FROM mpdispatch_jobs
WHERE expires_at_us <= ? AND +lane IS NOT NULL AND +state IN ('scheduled', 'pending', 'retrying')
ORDER BY expires_at_us LIMIT ?;

-- name: expire
-- Whichever lane it waits in.
UPDATE mpdispatch_jobs SET
    state = 'cancelled', lane = NULL, blocked_reason = NULL, completed_at_us = ?, expires_at_us = NULL
WHERE id IN (SELECT value FROM json_each(?)) AND +lane IS NOT NULL AND +state IN ('scheduled', 'pending', 'retrying');

-- name: forget_expiry
-- Of ended jobs, so that the index holds no more than what waits or runs.
UPDATE mpdispatch_jobs SET expires_at_us = NULL
WHERE id IN (SELECT id FROM mpdispatch_jobs WHERE expires_at_us <= ? AND +completed_at_us IS NOT NULL LIMIT ?);

-- name: stage
-- The index that a claim reads only contains due jobs.
UPDATE mpdispatch_jobs SET state = 'pending', lane = 1
WHERE id IN (
    SELECT id FROM mpdispatch_jobs
    WHERE lane = 2 AND queue = ? AND state = ? AND run_at_us <= ?
    ORDER BY run_at_us LIMIT ?
);

-- name: next_due
-- Two seeks per polled queue.
SELECT min(
    (
        SELECT j.run_at_us FROM mpdispatch_jobs AS j
        WHERE j.lane = 2 AND j.queue = q.value AND j.state = s.column1
        ORDER BY j.run_at_us LIMIT 1
    )
)
FROM json_each(?) AS q, (VALUES ('scheduled'), ('retrying')) AS s;

-- name: finish
-- Every other outcome; the same guard. A cancel asked for while it ran must not be lost if the job would
-- otherwise run again. A job that has begun does not expire any more. Its values, in this order: terminal?, state,
-- lane, terminal?, at, attempt, run at, begun?, started, result, error changes?, last error, pid, cpu, rss, id, owner,
-- starts.
UPDATE mpdispatch_jobs SET
    state = CASE
        WHEN cancel_requested_us IS NOT NULL AND ? = 0 THEN 'cancelled' ELSE ?
    END,
    lane = CASE WHEN cancel_requested_us IS NULL THEN ? END,
    completed_at_us = CASE
        WHEN cancel_requested_us IS NOT NULL OR ? THEN ?
    END,
    cancel_requested_us = NULL,
    owner = NULL,
    attempt = ?,
    run_at_us = coalesce(?, run_at_us),
    expires_at_us = CASE WHEN NOT ? THEN expires_at_us END,
    started_at_us = coalesce(
        ?,
        (
            SELECT a.started_at_us FROM mpdispatch_attempt_rows AS a
            WHERE a.job_id = mpdispatch_jobs.id ORDER BY a.starts DESC LIMIT 1
        )
    ),
    result = ?,
    last_error = CASE WHEN ? THEN ? ELSE last_error END,
    worker_pid = ?,
    cpu_us = ?,
    max_rss_bytes = ?
WHERE id = ? AND owner = ? AND starts = ? AND state = 'running';

-- name: tidy_running
-- A running row with values that only other states may have: no outcome could be recorded for it.
-- A row without an owner gets owner 0, which no supervisor has, so that it is taken over.
UPDATE mpdispatch_jobs SET
    lane = NULL,
    blocked_reason = NULL,
    duration_us = NULL,
    completed_at_us = NULL,
    owner = coalesce(owner, 0)
WHERE id = ? AND state = 'running';

-- name: insert_attempt
-- Keyed by the fencing token: a start ends only once.
INSERT INTO mpdispatch_attempt_rows ($attempt) VALUES ($attempt_values);

-- name: insert_result
-- A large result has a table of its own, like a large payload.
INSERT INTO mpdispatch_results (job_id, result) VALUES (?, ?);

-- name: insert_dead_letter
-- UNIQUE by job: a job fails once. A NULL id becomes the next one; but if someone has used the highest possible id
-- by hand, SQLite has no next id and reports a full disk.
INSERT INTO mpdispatch_dead_letters (id, job_id, name, queue, failed_at_us)
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

-- name: progress
-- Guarded like an outcome; a late report is dropped.
UPDATE mpdispatch_jobs SET progress = ? WHERE id = ? AND owner = ? AND starts = ? AND state = 'running';

-- name: outstanding_due
-- Capped: a drain only needs to know whether there is any.
SELECT count(*) FROM (SELECT 1 FROM mpdispatch_jobs WHERE lane = 1 AND queue = ? LIMIT 1000) AS due;

-- name: outstanding_retrying
-- Does not count all jobs scheduled for later.
SELECT count(*) FROM (
    SELECT 1 FROM mpdispatch_jobs WHERE lane = 2 AND queue = ? AND state = 'retrying' LIMIT 1000
) AS retrying;

-- name: due_in
-- By the index alone.
SELECT count(*) FROM mpdispatch_jobs WHERE lane = 1 AND queue = ?;

-- name: scheduled_in
-- By the index alone.
SELECT count(*) FROM mpdispatch_jobs WHERE lane = 2 AND queue = ? AND state = 'scheduled';

-- name: parked_in
-- Of these queues, by the parked index, then the rows for their reasons; the commonest first.
SELECT blocked_reason, count(*) FROM mpdispatch_jobs
WHERE lane = 3 AND queue IN (SELECT value FROM json_each(?)) GROUP BY blocked_reason ORDER BY 2 DESC;

-- name: dependents_in
-- Jobs of these queues that wait for others.
SELECT count(*) FROM mpdispatch_dependents WHERE queue IN (SELECT value FROM json_each(?));
