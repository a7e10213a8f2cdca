-- name: forget_supervisors
-- In a copy: those of the store are not its own. Their running jobs are taken over like any without a registration.
DELETE FROM mpdispatch_supervisors;

-- name: raise_owners
-- In a copy: the next supervisors get ids that no supervisor of the store has had or will have. Unless somebody has
-- used the highest ids by hand; then ids are times anyway, see register.
INSERT OR REPLACE INTO sqlite_sequence (rowid, name, seq)
SELECT
    (SELECT rowid FROM sqlite_sequence WHERE name = 'mpdispatch_supervisors'),
    'mpdispatch_supervisors',
    ? + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_supervisors'), 0)
WHERE coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mpdispatch_supervisors'), 0) < 1 << 61;
