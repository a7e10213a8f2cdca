-- A store of schema version 4 as it was dumped: what one of version 3 became, and batches and a cron entry.
PRAGMA application_id = 1297106003;
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
INSERT INTO "mpdispatch_attempt_rows" VALUES(2,1,1,'completed',1749999999999000,1750000000000000,900,31,NULL,NULL,800,1048576,NULL);
INSERT INTO "mpdispatch_attempt_rows" VALUES(3,1,1,'error',1749999999999000,1750000000000000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
INSERT INTO "mpdispatch_attempt_rows" VALUES(4,1,1,'error',1749999999999000,1750000000000000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
INSERT INTO "mpdispatch_attempt_rows" VALUES(5,1,1,'error',1749999999999000,1750000000000000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
INSERT INTO "mpdispatch_attempt_rows" VALUES(8,1,1,'error',1750000002000000,1750000002001000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
INSERT INTO "mpdispatch_attempt_rows" VALUES(17,1,1,'error',1750000100999000,1750000101000000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
INSERT INTO "mpdispatch_attempt_rows" VALUES(18,1,1,'error',1750000101999000,1750000102000000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
INSERT INTO "mpdispatch_attempt_rows" VALUES(19,1,1,'error',1750000102999000,1750000103000000,900,31,NULL,NULL,800,1048576,'{"type":"ValueError","message":"no such page","traceback":"Traceback …"}');
CREATE TABLE mpdispatch_cron_skips (
    cron_id INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (cron_id, first_us, at_us)
) STRICT, WITHOUT ROWID;
CREATE TABLE mpdispatch_cron_slots (
    cron_id INTEGER NOT NULL,
    slot_us INTEGER NOT NULL,
    fired_at_us INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    -- 1 until a decision has seen the end of its job, then NULL.
    is_open INTEGER CHECK (is_open = 1),
    PRIMARY KEY (cron_id, slot_us)
) STRICT, WITHOUT ROWID;
INSERT INTO "mpdispatch_cron_slots" VALUES(1,1750000000000000,1750000000000000,25,1);
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
INSERT INTO "mpdispatch_crons" VALUES(1,'nightly','{"name":"nightly","schedule":"@daily","tz":"UTC","job":{"name":"mail","payload":"","queue":"default","priority":0,"max_retries":3,"run_at_us":null,"delay_us":0,"timeout_us":null,"idempotency_key":null,"retried_from":null,"trace_context":null,"slot_us":null,"expires_at_us":null,"expires_us":null},"catch_up":"latest","catch_up_limit":100,"overlap":"allow","jitter_us":0,"starts_at_us":null,"ends_at_us":null,"late_after_us":null}','{}','user','',2,1,0,1750000000000000,1750000000000000,1750000000000000,1750000001000000,NULL,1750000000000000,1750000000000000,25,NULL,NULL);
CREATE TABLE mpdispatch_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    failed_at_us INTEGER NOT NULL,
    closed_at_us INTEGER,
    replayed_as INTEGER
) STRICT;
INSERT INTO "mpdispatch_dead_letters" VALUES(1,3,'render','default',1750000000000000,1750000002000000,6);
INSERT INTO "mpdispatch_dead_letters" VALUES(2,4,'render','default',1750000000000000,NULL,NULL);
INSERT INTO "mpdispatch_dead_letters" VALUES(5,19,'broken','bulk',1750000103000000,NULL,NULL);
INSERT INTO "mpdispatch_dead_letters" VALUES(6,17,'broken','bulk',1750000101000000,1750000101000000,NULL);
INSERT INTO "mpdispatch_dead_letters" VALUES(7,18,'broken','bulk',1750000102000000,1750000102000000,NULL);
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
    trace_context TEXT, slot_us INTEGER, expires_at_us INTEGER,
    -- A job is held by a supervisor, waits in a lane or has ended.
    CHECK ((owner IS NOT NULL) + (lane IS NOT NULL) + (completed_at_us IS NOT NULL) = 1),
    CHECK (blocked_reason IS NULL OR lane IS NOT NULL)
) STRICT;
INSERT INTO "mpdispatch_jobs" VALUES(1,'render','default','completed',NULL,0,1750000000000000,1,1,3,NULL,NULL,1750000000000000,1749999999999000,1750000000000000,NULL,NULL,NULL,NULL,NULL,31,900,800,1048576,NULL,NULL,'{"pages":3}','{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(2,'render','default','completed',NULL,0,1750000000000000,1,1,3,NULL,NULL,1750000000000000,1749999999999000,1750000000000000,NULL,NULL,NULL,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(3,'render','default','failed',NULL,0,1750000000000000,1,1,0,NULL,NULL,1750000000000000,1749999999999000,1750000000000000,NULL,NULL,NULL,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(4,'render','default','failed',NULL,0,1750000000000000,1,1,0,NULL,NULL,1750000000000000,1749999999999000,1750000000000000,NULL,'k-4',NULL,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(5,'render','default','completed',NULL,0,1750000001000000,2,2,3,NULL,NULL,1750000000000000,1750000001999000,1750000002000000,NULL,NULL,NULL,NULL,NULL,31,900,800,1048576,NULL,NULL,'{"pages":3}','{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(6,'render','default','running',NULL,0,1750000002000000,1,1,0,1,NULL,1750000002000000,1750000002001000,NULL,1750000002001000,NULL,NULL,3,NULL,NULL,NULL,NULL,NULL,'{"page":2}',NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(7,'unheard_of','default','pending',3,0,1750000002000000,0,0,3,NULL,NULL,1750000002000000,NULL,NULL,NULL,NULL,NULL,NULL,'no handler ''unheard_of'' in this engine; registered: render',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(8,'render','default','retrying',2,0,1750003602001000,1,1,3,NULL,NULL,1750000002001000,1750000002000000,NULL,NULL,NULL,NULL,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(9,'render','default','pending',1,0,1750000002001000,0,1,3,NULL,NULL,1750000002001000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(10,'render','default','cancelled',NULL,0,1750000002001000,0,0,3,NULL,NULL,1750000002001000,NULL,1750000002001000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(11,'render','default','scheduled',2,7,1750003602001000,0,0,3,NULL,5000000,1750000002001000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(12,'mail','mails','pending',1,0,1750000002001000,0,0,3,NULL,NULL,1750000002001000,NULL,NULL,NULL,'k-12',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"to":"é"}','{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(13,'mail','mails','pending',1,0,1750000002001000,0,0,3,NULL,NULL,1750000002001000,NULL,NULL,NULL,NULL,13,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(14,'mail','mails','pending',1,0,1750000002001000,0,0,3,NULL,NULL,1750000002001000,NULL,NULL,NULL,NULL,13,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(15,'render','rated','running',NULL,0,1750000002001000,1,1,3,1,NULL,1750000002001000,1750000002001000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(16,'old','default','cancelled',NULL,0,1750000002001000,0,0,3,NULL,NULL,1750000002001000,NULL,1750000002001000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"path":"a.pdf"}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(17,'broken','bulk','failed',NULL,0,1750000100000000,1,1,0,NULL,NULL,1750000100000000,1750000100999000,1750000101000000,NULL,NULL,NULL,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,'{"n":3}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(18,'broken','bulk','failed',NULL,0,1750000100000000,1,1,0,NULL,NULL,1750000100000000,1750000101999000,1750000102000000,NULL,NULL,18,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,'{}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(19,'broken','bulk','failed',NULL,0,1750000100000000,1,1,0,NULL,NULL,1750000100000000,1750000102999000,1750000103000000,NULL,NULL,18,NULL,NULL,31,NULL,800,1048576,NULL,NULL,NULL,'{}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(20,'resize','bulk','pending',1,0,1750000000000000,0,0,3,NULL,NULL,1750000000000000,NULL,NULL,NULL,NULL,20,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"n":1}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(21,'resize','bulk','cancelled',NULL,0,1750000000000000,0,0,3,NULL,NULL,1750000000000000,NULL,1750000000000000,NULL,NULL,20,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"n":2}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(22,'resize','bulk','pending',1,0,1750000000000000,0,0,3,NULL,NULL,1750000000000000,NULL,NULL,NULL,NULL,20,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"n":3}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(23,'resize','bulk','pending',1,0,1750000000000000,0,0,3,NULL,NULL,1750000000000000,NULL,NULL,NULL,NULL,23,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"n":1}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(24,'resize','bulk','pending',1,0,1750000000000000,0,0,3,NULL,NULL,1750000000000000,NULL,NULL,NULL,NULL,23,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"n":2}',NULL,NULL,NULL);
INSERT INTO "mpdispatch_jobs" VALUES(25,'mail','default','pending',1,0,1750000000000000,0,0,3,NULL,NULL,1750000000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,1750000000000000,NULL);
CREATE TABLE mpdispatch_meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "mpdispatch_meta" VALUES('pruned_up_to','16');
INSERT INTO "mpdispatch_meta" VALUES('schema_version','4');
CREATE TABLE "mpdispatch_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "mpdispatch_migrations" VALUES(1,'mpdispatch','v1_jobs','2026-03-01 00:00:00+00:00');
INSERT INTO "mpdispatch_migrations" VALUES(2,'mpdispatch','v2_token','2026-03-01 00:00:00+00:00');
INSERT INTO "mpdispatch_migrations" VALUES(3,'mpdispatch','v3_strict','2026-06-01 00:00:00+00:00');
INSERT INTO "mpdispatch_migrations" VALUES(4,'mpdispatch','v4_time','2026-11-30 16:39:20.770737+00:00');
CREATE TABLE mpdispatch_outputs (
    job_id INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    stream TEXT NOT NULL,
    written INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, starts, stream)
) STRICT;
INSERT INTO "mpdispatch_outputs" VALUES(4,1,'stderr',13,'no such page
');
CREATE TABLE mpdispatch_payloads (
    job_id INTEGER PRIMARY KEY,
    payload ANY NOT NULL
) STRICT;
INSERT INTO "mpdispatch_payloads" VALUES(2,'{"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}');
CREATE TABLE mpdispatch_queues (
    name TEXT PRIMARY KEY,
    is_paused INTEGER NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1)),
    tat_us INTEGER,
    tat_boot_id TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO "mpdispatch_queues" VALUES('mails',1,NULL,NULL);
INSERT INTO "mpdispatch_queues" VALUES('rated',0,2002001000,'b-1');
CREATE TABLE mpdispatch_results (
    job_id INTEGER PRIMARY KEY,
    result ANY NOT NULL
) STRICT;
INSERT INTO "mpdispatch_results" VALUES(2,'"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"');
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
INSERT INTO "mpdispatch_supervisors" VALUES(1,'here','m-1','b-1',4711,99,'pid:[1]','["default"]',4,'shop:engine','0.1.0',1750000000000000,1750000000000000,1750000030000000,1030000000,'');
CREATE UNIQUE INDEX "idx_mpdispatch_migrations_migration_set_name"
    ON "mpdispatch_migrations" ("migration_set", "name");
CREATE VIEW mpdispatch_last_id AS
SELECT max(
    coalesce((SELECT max(id) FROM mpdispatch_jobs), 0),
    coalesce((SELECT CAST(value AS INTEGER) FROM mpdispatch_meta WHERE key = 'pruned_up_to'), 0)
) AS id;
CREATE INDEX mpdispatch_jobs_due ON mpdispatch_jobs (lane, queue, priority DESC, run_at_us)
WHERE lane = 1;
CREATE INDEX mpdispatch_jobs_later ON mpdispatch_jobs (lane, queue, state, run_at_us)
WHERE lane = 2;
CREATE INDEX mpdispatch_jobs_parked ON mpdispatch_jobs (lane, name, queue, priority DESC, run_at_us)
WHERE lane = 3;
CREATE INDEX mpdispatch_jobs_running ON mpdispatch_jobs (owner, queue)
WHERE owner IS NOT NULL;
CREATE INDEX mpdispatch_jobs_cancel ON mpdispatch_jobs (cancel_requested_us)
WHERE cancel_requested_us IS NOT NULL;
CREATE UNIQUE INDEX mpdispatch_jobs_key ON mpdispatch_jobs (name, idempotency_key)
WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX mpdispatch_jobs_retried ON mpdispatch_jobs (retried_from)
WHERE retried_from IS NOT NULL;
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
CREATE INDEX mpdispatch_dead_letters_open ON mpdispatch_dead_letters (queue, closed_at_us)
WHERE closed_at_us IS NULL;
CREATE INDEX mpdispatch_jobs_ended ON mpdispatch_jobs (state, queue, completed_at_us)
WHERE completed_at_us IS NOT NULL;
CREATE INDEX mpdispatch_jobs_expiring ON mpdispatch_jobs (expires_at_us) WHERE expires_at_us IS NOT NULL;
CREATE INDEX mpdispatch_dead_letters_closed ON mpdispatch_dead_letters (closed_at_us)
WHERE closed_at_us IS NOT NULL;
CREATE INDEX mpdispatch_cron_slots_open ON mpdispatch_cron_slots (cron_id, is_open, slot_us, job_id)
WHERE is_open = 1;
CREATE INDEX mpdispatch_cron_slots_job ON mpdispatch_cron_slots (job_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('mpdispatch_supervisors',2);
INSERT INTO "sqlite_sequence" VALUES('mpdispatch_dead_letters',7);
INSERT INTO "sqlite_sequence" VALUES('mpdispatch_crons',1);
