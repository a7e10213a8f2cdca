-- Version 3, with which a new file begins; see steps. Times are integer microseconds UTC. Large payloads and results
-- stand apart, so that a claim or an outcome never rewrites overflow pages.
--
-- All tables are STRICT: a column holds its type or NULL. JSON is TEXT, or a BLOB where it is not UTF-8: type ANY.
-- No CHECK names a state, a cause or a stream: a new one needs no new table.
--
-- What a job costs is how many index entries it makes on its way: due (enqueue), due to running (claim), running
-- to ended (outcome). The other indexes are on columns a plain job never touches, so their conditions are not
-- even looked at. No IN lists: SQLite fills a temporary table for one in every statement that checks it.

CREATE TABLE mpdispatch_meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- An id is never used twice, pruned or not: see mpdispatch_last_id. AUTOINCREMENT would say so too, for another
-- page in every commit, a sixth of the cost of an enqueue.
CREATE TABLE mpdispatch_jobs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Which lane it waits in: 1 due, 2 later (scheduled, retrying), 3 parked, NULL none.
    lane INTEGER,
    priority INTEGER NOT NULL,
    run_at_us INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND starts),
    starts INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL CHECK (max_retries >= 0),
    owner INTEGER,
    timeout_us INTEGER,
    created_at_us INTEGER NOT NULL,
    started_at_us INTEGER,
    completed_at_us INTEGER,
    cancel_requested_us INTEGER,
    idempotency_key TEXT,
    batch_id INTEGER,
    retried_from INTEGER,
    blocked_reason TEXT,
    worker_pid INTEGER,
    -- Of a completed start whose record is this row itself, see mpdispatch_attempts.
    duration_us INTEGER CHECK (duration_us IS NULL OR completed_at_us IS NOT NULL),
    cpu_us INTEGER,
    max_rss_bytes INTEGER,
    progress ANY,
    last_error ANY,
    result ANY,
    payload ANY,
    -- The trace it was enqueued in (JSON), if any.
    trace_context TEXT,
    -- A job is held by a supervisor, waits in a lane or has ended.
    CHECK ((owner IS NOT NULL) + (lane IS NOT NULL) + (completed_at_us IS NOT NULL) = 1),
    CHECK (blocked_reason IS NULL OR lane IS NOT NULL)
) STRICT;

-- The highest id ever given. Pruning keeps the highest id that it deletes.
CREATE VIEW mpdispatch_last_id AS
SELECT max(
    coalesce((SELECT max(id) FROM mpdispatch_jobs), 0),
    coalesce((SELECT CAST(value AS INTEGER) FROM mpdispatch_meta WHERE key = 'pruned_up_to'), 0)
) AS id;

-- The three lanes. `lane` stands in their keys as well: without it SQLite 3.40 reads every row to count them.
-- Every entry ends in the rowid, which is the id.

-- The index that a claim reads: due jobs only, in the order of claiming.
CREATE INDEX mpdispatch_jobs_due ON mpdispatch_jobs (lane, queue, priority DESC, run_at_us)
WHERE lane = 1;

-- When jobs become due; queue and state come first, so finding a polled queue's next jobs takes two seeks.
CREATE INDEX mpdispatch_jobs_later ON mpdispatch_jobs (lane, queue, state, run_at_us)
WHERE lane = 2;

-- Parked jobs by name, for a supervisor that can run them.
CREATE INDEX mpdispatch_jobs_parked ON mpdispatch_jobs (lane, name, queue, priority DESC, run_at_us)
WHERE lane = 3;

-- Running jobs by owner, and their number per queue.
CREATE INDEX mpdispatch_jobs_running ON mpdispatch_jobs (owner, queue)
WHERE owner IS NOT NULL;

-- Lists and counts of what has ended, and what is to be pruned. The time stands in the key for both reasons.
CREATE INDEX mpdispatch_jobs_ended ON mpdispatch_jobs (state, queue, completed_at_us)
WHERE completed_at_us IS NOT NULL;

-- Open cancel requests: an outcome removes its job's request.
CREATE INDEX mpdispatch_jobs_cancel ON mpdispatch_jobs (cancel_requested_us)
WHERE cancel_requested_us IS NOT NULL;

CREATE UNIQUE INDEX mpdispatch_jobs_key ON mpdispatch_jobs (name, idempotency_key)
WHERE idempotency_key IS NOT NULL;

-- An ended job is enqueued again only once: a double click makes one job.
CREATE UNIQUE INDEX mpdispatch_jobs_retried ON mpdispatch_jobs (retried_from)
WHERE retried_from IS NOT NULL;

CREATE TABLE mpdispatch_payloads (
    job_id INTEGER PRIMARY KEY,
    payload ANY NOT NULL
) STRICT;

CREATE TABLE mpdispatch_results (
    job_id INTEGER PRIMARY KEY,
    result ANY NOT NULL
) STRICT;

-- Every start that ended, but for the last one of nearly every completed job: that job's own row says it all,
-- and a second row for it was a quarter of an outcome's cost. Read the view.
CREATE TABLE mpdispatch_attempt_rows (
    job_id INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    cause TEXT NOT NULL,
    started_at_us INTEGER NOT NULL,
    finished_at_us INTEGER NOT NULL,
    duration_us INTEGER,
    worker_pid INTEGER,
    exit_status INTEGER,
    signal TEXT,
    cpu_us INTEGER,
    max_rss_bytes INTEGER,
    error ANY,
    PRIMARY KEY (job_id, starts)
) STRICT, WITHOUT ROWID;

-- The last 64 KiB of each stream of a start; apart from its attempt, which is written once at its end.
CREATE TABLE mpdispatch_outputs (
    job_id INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    stream TEXT NOT NULL,
    written INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, starts, stream)
) STRICT;

-- The history: every start that ended, and how.
CREATE VIEW mpdispatch_attempts AS
SELECT
    job_id, starts, attempt, cause, started_at_us, finished_at_us, duration_us, worker_pid, error, exit_status,
    signal, cpu_us, max_rss_bytes
FROM mpdispatch_attempt_rows
UNION ALL
SELECT
    id, starts, attempt, 'completed', started_at_us, completed_at_us, duration_us, worker_pid, NULL, NULL,
    NULL, cpu_us, max_rss_bytes
FROM mpdispatch_jobs WHERE duration_us IS NOT NULL;

CREATE TABLE mpdispatch_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    failed_at_us INTEGER NOT NULL,
    replayed_at_us INTEGER,
    replayed_as INTEGER
) STRICT;

-- With the column that is always NULL in it: without it SQLite 3.40 reads every row to count them.
CREATE INDEX mpdispatch_dead_letters_open ON mpdispatch_dead_letters (queue, replayed_at_us)
WHERE replayed_at_us IS NULL;

CREATE TABLE mpdispatch_queues (
    name TEXT PRIMARY KEY,
    is_paused INTEGER NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1)),
    tat_us INTEGER,
    tat_boot_id TEXT
) STRICT, WITHOUT ROWID;

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
    lease_until_wall_us INTEGER NOT NULL,
    lease_until_boot_us INTEGER NOT NULL,
    -- Finds its workers if its start journal is lost.
    token TEXT NOT NULL DEFAULT ''
) STRICT;
