-- name: letters
-- One page; WHERE and ORDER are appended. The job itself is read by its own query.
SELECT job_id, failed_at_us, replayed_at_us, replayed_as, id FROM mpdispatch_dead_letters

-- name: count_open
-- Dead letters not replayed, by their partial index.
SELECT count(*) FROM mpdispatch_dead_letters WHERE replayed_at_us IS NULL AND queue = ?;

-- name: retried_as
-- By its own unique index: whether an ended job was enqueued again already.
SELECT id FROM mpdispatch_jobs WHERE retried_from = ?;

-- name: purge_dead_letter
-- By primary key, a few hundred in a transaction.
DELETE FROM mpdispatch_dead_letters WHERE id = ?;
