-- Version 1. Times are integer microseconds UTC; JSON is TEXT. Large payloads and results stand apart, so
-- that a claim or an outcome never rewrites overflow pages.
--
-- OR chains, not IN: SQLite fills a temporary table for an IN list in every statement that checks it, which was
-- half the cost of an outcome (1.7 ms instead of 1.0 for 64 claims and 64 outcomes).

CREATE TABLE mpdispatch_meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- AUTOINCREMENT: an id is never used twice, pruned or not.
CREATE TABLE mpdispatch_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL CHECK (
        state = 'running' OR state = 'completed' OR state = 'pending' OR state = 'scheduled'
        OR state = 'retrying' OR state = 'failed' OR state = 'cancelled'
    ),
    priority INTEGER NOT NULL,
    run_at_us INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND starts),
    starts INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL CHECK (max_retries >= 0),
    owner INTEGER CHECK ((owner IS NOT NULL) = (state = 'running')),
    timeout_us INTEGER,
    created_at_us INTEGER NOT NULL,
    started_at_us INTEGER,
    completed_at_us INTEGER CHECK (
        (completed_at_us IS NOT NULL) = (state = 'completed' OR state = 'failed' OR state = 'cancelled')
    ),
    cancel_requested_us INTEGER,
    idempotency_key TEXT,
    batch_id INTEGER,
    retried_from INTEGER,
    blocked_reason TEXT CHECK (blocked_reason IS NULL OR state = 'pending'),
    worker_pid INTEGER,
    cpu_us INTEGER,
    max_rss_bytes INTEGER,
    progress TEXT,
    last_error TEXT,
    result TEXT,
    payload TEXT
);

-- What claim walks: due jobs only, in the order they are taken (every index entry ends in the rowid, which is id).
CREATE INDEX mpdispatch_jobs_due ON mpdispatch_jobs (queue, priority DESC, run_at_us)
WHERE state = 'pending' AND blocked_reason IS NULL;

-- What becomes due when; by queue first, so a polled queue's next one is a single seek.
CREATE INDEX mpdispatch_jobs_later ON mpdispatch_jobs (queue, run_at_us)
WHERE state = 'scheduled' OR state = 'retrying';

-- Who runs what, and how many of a queue. Holds running rows only.
CREATE INDEX mpdispatch_jobs_running ON mpdispatch_jobs (owner, queue)
WHERE state = 'running';

-- Lists and counts of every other state (the running ones are in the index above, which saves two
-- index writes per job).
CREATE INDEX mpdispatch_jobs_state ON mpdispatch_jobs (state)
WHERE state <> 'running';

-- Jobs no supervisor could run, by name, for the one that can.
CREATE INDEX mpdispatch_jobs_parked ON mpdispatch_jobs (name, queue, priority DESC, run_at_us)
WHERE state = 'pending' AND blocked_reason IS NOT NULL;

CREATE INDEX mpdispatch_jobs_cancel ON mpdispatch_jobs (owner)
WHERE state = 'running' AND cancel_requested_us IS NOT NULL;

CREATE UNIQUE INDEX mpdispatch_jobs_key ON mpdispatch_jobs (name, idempotency_key)
WHERE idempotency_key IS NOT NULL;

CREATE TABLE mpdispatch_payloads (
    job_id INTEGER PRIMARY KEY,
    payload TEXT NOT NULL
);

CREATE TABLE mpdispatch_results (
    job_id INTEGER PRIMARY KEY,
    result TEXT NOT NULL
);

CREATE TABLE mpdispatch_attempts (
    job_id INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    cause TEXT NOT NULL CHECK (
        cause = 'completed' OR cause = 'error' OR cause = 'timeout' OR cause = 'retry' OR cause = 'snooze'
        OR cause = 'cancelled' OR cause = 'worker_died' OR cause = 'lease_lost' OR cause = 'aborted'
        OR cause = 'released'
    ),
    started_at_us INTEGER NOT NULL,
    finished_at_us INTEGER NOT NULL,
    duration_us INTEGER,
    worker_pid INTEGER,
    exit_status INTEGER,
    signal TEXT,
    cpu_us INTEGER,
    max_rss_bytes INTEGER,
    error TEXT,
    PRIMARY KEY (job_id, starts)
) WITHOUT ROWID;

CREATE TABLE mpdispatch_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    failed_at_us INTEGER NOT NULL,
    replayed_at_us INTEGER,
    replayed_as INTEGER
);

-- With the column that is always NULL in it: without it SQLite 3.40 reads every row to count them.
CREATE INDEX mpdispatch_dead_letters_open ON mpdispatch_dead_letters (queue, replayed_at_us)
WHERE replayed_at_us IS NULL;

CREATE TABLE mpdispatch_queues (
    name TEXT PRIMARY KEY,
    is_paused INTEGER NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1)),
    tat_us INTEGER,
    tat_boot_id TEXT
) WITHOUT ROWID;

CREATE TABLE mpdispatch_supervisors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_start INTEGER NOT NULL,
    pid_namespace TEXT NOT NULL,
    queues TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    app TEXT NOT NULL,
    version TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    heartbeat_us INTEGER NOT NULL,
    lease_until_us INTEGER NOT NULL,
    lease_until_boot_us INTEGER NOT NULL
);
