-- name: crons
-- All entries (WHERE and ORDER are appended), each with its open firings as JSON: one statement, so one snapshot. An
-- unknown state counts as failed, as such a job never runs. Capped: jobs that nobody runs may pile up for days.
SELECT
    $cron,
    CAST(c.spec AS BLOB),
    CAST(c.payload AS BLOB),
    (
        SELECT json_group_array(json_array(o.slot_us, o.job_id, o.state, o.completed_at_us)) FROM (
            SELECT
                s.slot_us,
                s.job_id,
                CASE
                    WHEN j.id IS NULL THEN 'cancelled'
                    WHEN j.state IN ($states) THEN j.state
                    ELSE 'failed'
                END AS state,
                j.completed_at_us
            FROM mpdispatch_cron_slots AS s LEFT JOIN mpdispatch_jobs AS j ON j.id = s.job_id
            WHERE s.cron_id = c.id AND s.is_open = 1
            ORDER BY s.slot_us LIMIT 1000
        ) AS o
    )
FROM mpdispatch_crons AS c

-- name: insert_cron
-- If SQLite has no id left (see insert_dead_letter), the id is the next one below those written by hand.
INSERT INTO mpdispatch_crons (
    id, name, spec, payload, origin, app, created_at_us, enabled_at_us, decided_until_us, next_slot_us
)
VALUES (
    CASE
        WHEN max(
            coalesce((SELECT max(id) FROM mpdispatch_crons), 0),
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_crons'), 0)
        ) >= 1 << 62
        THEN coalesce((SELECT max(id) FROM mpdispatch_crons WHERE id < 1 << 62), 0) + 1
    END,
    ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: declare_cron
-- An entry whose app declares it otherwise, or again.
UPDATE mpdispatch_crons SET
    spec = ?,
    payload = ?,
    app = ?,
    is_orphan = 0,
    enabled_at_us = ?,
    decided_until_us = ?,
    next_slot_us = ?,
    late_since_us = ?,
    revision = $next_revision
WHERE id = ?;

-- name: orphan_cron
-- Its app no longer declares it.
UPDATE mpdispatch_crons SET is_orphan = 1, next_slot_us = NULL, late_since_us = NULL, revision = $next_revision
WHERE id = ?;

-- name: enable_cron
-- Its slots begin anew after it was disabled. An orphan has no next one.
UPDATE mpdispatch_crons SET
    is_enabled = 1,
    enabled_at_us = ?,
    decided_until_us = ?,
    next_slot_us = CASE WHEN is_orphan = 0 THEN CAST(? AS INTEGER) END,
    late_since_us = NULL,
    revision = $next_revision
WHERE id = ? AND is_enabled = 0;

-- name: disable_cron
-- A disabled entry is not late.
UPDATE mpdispatch_crons SET
    is_enabled = 0, next_slot_us = NULL, late_since_us = NULL, revision = $next_revision
WHERE id = ? AND is_enabled = 1;

-- name: move_cron
-- The last part of a decision. What is not known to it stays.
UPDATE mpdispatch_crons SET
    decided_until_us = ?,
    next_slot_us = ?,
    boot_id = coalesce(?, boot_id),
    last_success_us = coalesce(?, last_success_us),
    late_since_us = ?,
    revision = $next_revision
WHERE id = ?;

-- name: fired_cron
-- Shown with the entry: its last firing.
UPDATE mpdispatch_crons SET last_slot_us = ?, last_fired_us = ?, last_job_id = ?, revision = $next_revision
WHERE id = ?;

-- name: has_fired
-- By the primary key, under the write lock: no slot fires twice.
SELECT EXISTS (SELECT 1 FROM mpdispatch_cron_slots WHERE cron_id = ? AND slot_us = ?);

-- name: insert_slot
-- In the transaction that inserts its job.
INSERT INTO mpdispatch_cron_slots (cron_id, slot_us, fired_at_us, job_id, is_open) VALUES (?, ?, ?, ?, 1);

-- name: close_slot
-- Its job has ended.
UPDATE mpdispatch_cron_slots SET is_open = NULL WHERE cron_id = ? AND slot_us = ? AND is_open = 1;

-- name: last_skip
-- New skips may join it, unless a slot has fired since.
SELECT k.first_us, k.last_us, k.reason, k.at_us FROM (
    SELECT first_us, last_us, reason, at_us FROM mpdispatch_cron_skips
    WHERE cron_id = :id ORDER BY first_us DESC, at_us DESC LIMIT 1
) AS k
WHERE NOT EXISTS (SELECT 1 FROM mpdispatch_cron_slots WHERE cron_id = :id AND slot_us > k.last_us);

-- name: delete_skip
-- Before a longer one takes its place.
DELETE FROM mpdispatch_cron_skips WHERE cron_id = ? AND first_us = ? AND at_us = ?;

-- name: insert_skip
-- The same slots may be skipped again in the same microsecond, for another reason.
INSERT OR REPLACE INTO mpdispatch_cron_skips (cron_id, first_us, last_us, reason, at_us) VALUES (?, ?, ?, ?, ?);

-- name: slots_and_skips
-- The id of the entry, its last fired slots and its last skips: one statement, so one snapshot. A slot or a skip has two
-- times, then the id of a job, or another time and a reason.
WITH entry (id) AS (SELECT id FROM mpdispatch_crons WHERE name = :name)
SELECT 'entry', id, CAST(NULL AS INTEGER), CAST(NULL AS INTEGER), CAST(NULL AS TEXT) FROM entry
UNION ALL
SELECT * FROM (
    SELECT 'fired', slot_us, fired_at_us, job_id, CAST(NULL AS TEXT) FROM mpdispatch_cron_slots
    WHERE cron_id = (SELECT id FROM entry) ORDER BY slot_us DESC LIMIT :limit
) AS fired
UNION ALL
SELECT * FROM (
    SELECT 'skipped', first_us, last_us, at_us, reason FROM mpdispatch_cron_skips
    WHERE cron_id = (SELECT id FROM entry) ORDER BY first_us DESC, at_us DESC LIMIT :limit
) AS skipped;

-- name: delete_cron
-- First: without it, nobody sees the rest.
DELETE FROM mpdispatch_crons WHERE id = ?;

-- name: delete_slots
-- A few thousand in a transaction: an entry may have fired each second of a week.
DELETE FROM mpdispatch_cron_slots WHERE (cron_id, slot_us) IN (
    SELECT cron_id, slot_us FROM mpdispatch_cron_slots WHERE cron_id = ? LIMIT ?
);

-- name: delete_skips
-- The same for its skips.
DELETE FROM mpdispatch_cron_skips WHERE (cron_id, first_us, at_us) IN (
    SELECT cron_id, first_us, at_us FROM mpdispatch_cron_skips WHERE cron_id = ? LIMIT ?
);

-- name: crons_of_job
-- The entry whose slot a job was made for, by the index of jobs. Most jobs have none.
SELECT cron_id FROM mpdispatch_cron_slots WHERE job_id = ?;

-- name: take_slot
-- A job enqueued again takes the place of the old one: the slot is open again.
UPDATE mpdispatch_cron_slots SET job_id = ?, is_open = 1 WHERE job_id = ?;

-- name: retried_cron
-- A decision made for the old job no longer holds.
UPDATE mpdispatch_crons SET
    last_job_id = CASE WHEN last_job_id = ? THEN ? ELSE last_job_id END,
    revision = $next_revision
WHERE id = ?;
