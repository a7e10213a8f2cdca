-- name: rows
-- A page in the order of the key, by the index of the primary key.
SELECT $columns FROM mpdispatch_$table WHERE ($key) > ($key_values) ORDER BY $key LIMIT ?;

-- name: fill
-- With the ids that the rows have.
INSERT INTO mpdispatch_$table ($columns) VALUES ($values);

-- name: count
-- Reads the table's smallest index: some 50 ms for a million rows.
SELECT count(*) FROM mpdispatch_$table;

-- name: is_filled
-- In a transaction that must not take long.
SELECT EXISTS (SELECT 1 FROM mpdispatch_$table);
