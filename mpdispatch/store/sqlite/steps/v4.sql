-- Version 4, see v4.py.

ALTER TABLE mpdispatch_jobs ADD COLUMN slot_us INTEGER;

-- Cleared once it has passed and the job has ended: the index holds no more than what waits or runs.
ALTER TABLE mpdispatch_jobs ADD COLUMN expires_at_us INTEGER;

-- On no column that a plain job touches, as all the other indexes of rare cases.
CREATE INDEX mpdispatch_jobs_expiring ON mpdispatch_jobs (expires_at_us) WHERE expires_at_us IS NOT NULL;

-- Letters that earlier versions deleted when they were purged. With ids of ours: if somebody has used the highest
-- possible id by hand, SQLite has no next one.
INSERT INTO mpdispatch_dead_letters (id, job_id, name, queue, failed_at_us, closed_at_us)
SELECT
    (SELECT coalesce(max(id), 0) FROM mpdispatch_dead_letters WHERE id < 1 << 62)
    + row_number() OVER (ORDER BY completed_at_us),
    id, name, queue, completed_at_us, completed_at_us
FROM mpdispatch_jobs AS j
WHERE state = 'failed' AND completed_at_us IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM mpdispatch_dead_letters AS d WHERE d.job_id = j.id);

CREATE INDEX mpdispatch_dead_letters_closed ON mpdispatch_dead_letters (closed_at_us)
WHERE closed_at_us IS NOT NULL;

-- The fields of `model.cron.CronEntry`; `spec` is the CronSpec without its job's payload, as JSON.
CREATE TABLE mpdispatch_crons (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    payload ANY NOT NULL,
    origin TEXT NOT NULL,
    app TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 1,
    is_enabled INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
    is_orphan INTEGER NOT NULL DEFAULT 0 CHECK (is_orphan IN (0, 1)),
    created_at_us INTEGER NOT NULL,
    enabled_at_us INTEGER NOT NULL,
    decided_until_us INTEGER NOT NULL,
    next_slot_us INTEGER,
    boot_id TEXT,
    last_slot_us INTEGER,
    last_fired_us INTEGER,
    last_job_id INTEGER,
    last_success_us INTEGER,
    late_since_us INTEGER
) STRICT;

-- One job for a slot: the key says so to all supervisors.
CREATE TABLE mpdispatch_cron_slots (
    cron_id INTEGER NOT NULL,
    slot_us INTEGER NOT NULL,
    fired_at_us INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    -- 1 until a decision has seen the end of its job, then NULL.
    is_open INTEGER CHECK (is_open = 1),
    PRIMARY KEY (cron_id, slot_us)
) STRICT, WITHOUT ROWID;

-- With all that a look at the open firings reads; else SQLite prefers the primary key, and reads every slot.
CREATE INDEX mpdispatch_cron_slots_open ON mpdispatch_cron_slots (cron_id, is_open, slot_us, job_id)
WHERE is_open = 1;

-- Finds the entry of a job: shown with it, and a replay takes its place.
CREATE INDEX mpdispatch_cron_slots_job ON mpdispatch_cron_slots (job_id);

-- All slots from first_us to last_us. Slots next to the last ones that were skipped for the same reason join them.
-- The columns of the key come first: else quick_check of SQLite 3.40 takes what stands in others for NULL.
CREATE TABLE mpdispatch_cron_skips (
    cron_id INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (cron_id, first_us, at_us)
) STRICT, WITHOUT ROWID;
