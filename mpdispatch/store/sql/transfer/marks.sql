-- name: mark_of
-- The JSON of an Outgoing or an Incoming.
SELECT value FROM mpdispatch_meta WHERE key = ?;

-- name: mark
-- A new one, or one in the place of another.
INSERT INTO mpdispatch_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: replace_mark
-- Unless another process has replaced it: two that move the same store must not write the same rows.
UPDATE mpdispatch_meta SET value = ? WHERE key = ? AND value = ?;

-- name: unmark
-- Of a store that goes on.
DELETE FROM mpdispatch_meta WHERE key = ?;

-- name: running
-- By the running index.
SELECT count(*) FROM mpdispatch_jobs WHERE owner IS NOT NULL;

-- name: registered
-- Dead or alive: only the caller can tell.
SELECT id, host, pid FROM mpdispatch_supervisors ORDER BY id;

-- name: unregister_all
-- All of them are dead by then; one that is not has lost its lease.
DELETE FROM mpdispatch_supervisors;
