-- name: guards
-- The triggers of a frozen store.
SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB 'mpdispatch_frozen_*';

-- name: given_ids
-- Those that AUTOINCREMENT keeps; anything may stand there.
SELECT name, seq FROM sqlite_sequence WHERE typeof(seq) = 'integer' AND name GLOB 'mpdispatch_*';

-- name: last_job_id
-- Pruned or not.
SELECT id FROM mpdispatch_last_id;

-- name: raise_given_id
-- Of a table that has had rows.
UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?;

-- name: set_given_id
-- Of one that has had none.
INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?);
