-- Version 5, see v5.py. Jobs that wait for others are in lane 4.

-- The mark on an ended job that was enqueued again: it stays when the new job is pruned.
ALTER TABLE mpdispatch_jobs ADD COLUMN retried_as INTEGER;

UPDATE mpdispatch_jobs SET retried_as = (SELECT a.id FROM mpdispatch_jobs AS a WHERE a.retried_from = mpdispatch_jobs.id)
WHERE id IN (SELECT retried_from FROM mpdispatch_jobs WHERE retried_from IS NOT NULL);

-- Failures that somebody has dealt with: they are not counted as failed.
CREATE INDEX mpdispatch_jobs_dealt_with ON mpdispatch_jobs (state, queue, retried_as) WHERE retried_as IS NOT NULL;

-- On a column that nothing changes once a job is stored: claims and outcomes do not touch it.
CREATE INDEX mpdispatch_jobs_batch ON mpdispatch_jobs (batch_id) WHERE batch_id IS NOT NULL;

-- The numbers of members that have ended are kept by the transactions that end them. Started: the first start of these.
CREATE TABLE mpdispatch_batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    key TEXT,
    is_open INTEGER NOT NULL DEFAULT 1 CHECK (is_open IN (0, 1)),
    max_fails INTEGER,
    max_fail_share REAL,
    created_at_us INTEGER NOT NULL,
    started_at_us INTEGER,
    ended_at_us INTEGER,
    cancelled_at_us INTEGER,
    -- While its members are cancelled, the last ones first: an id before which some may wait. Else NULL.
    cancelling_before INTEGER,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX mpdispatch_batches_key ON mpdispatch_batches (key) WHERE key IS NOT NULL;

-- Batches that have not ended: without any, a commit does not look for members.
CREATE INDEX mpdispatch_batches_current ON mpdispatch_batches (ended_at_us) WHERE ended_at_us IS NULL;

CREATE INDEX mpdispatch_batches_cancelling ON mpdispatch_batches (cancelling_before)
WHERE cancelling_before IS NOT NULL;

-- `job` is a NewJob as JSON, without its payload; `job_id` the job it became.
CREATE TABLE mpdispatch_callbacks (
    batch_id INTEGER NOT NULL,
    event TEXT NOT NULL,
    name TEXT NOT NULL,
    job ANY NOT NULL,
    job_id INTEGER,
    PRIMARY KEY (batch_id, event)
) STRICT, WITHOUT ROWID;

-- The jobs in lane 4, so that lane needs no index: each job that is claimed would pay for it.
CREATE TABLE mpdispatch_dependents (
    job_id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    open_parents INTEGER NOT NULL CHECK (open_parents > 0),
    on_parent_failure TEXT NOT NULL
) STRICT;

CREATE INDEX mpdispatch_dependents_queue ON mpdispatch_dependents (queue);

-- What each waits or waited for, and how: a job that is enqueued again waits in the same way.
CREATE TABLE mpdispatch_parents (
    job_id INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    on_parent_failure TEXT NOT NULL,
    PRIMARY KEY (job_id, parent_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX mpdispatch_parents_parent ON mpdispatch_parents (parent_id);

-- Batches of earlier versions were numbers, those of their first jobs.
INSERT INTO mpdispatch_batches
    (id, name, is_open, created_at_us, started_at_us, ended_at_us, total, completed, failed, cancelled)
SELECT
    batch_id, (SELECT f.name FROM mpdispatch_jobs AS f WHERE f.batch_id = j.batch_id ORDER BY f.id LIMIT 1), 0, min(created_at_us), min(started_at_us),
    CASE WHEN count(completed_at_us) = count(*) THEN max(completed_at_us) END,
    count(*), count(*) FILTER (WHERE state = 'completed'),
    count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'cancelled')
FROM mpdispatch_jobs AS j WHERE batch_id IS NOT NULL AND batch_id < 1 << 62 GROUP BY batch_id;
