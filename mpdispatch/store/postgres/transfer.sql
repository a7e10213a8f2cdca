-- name: guard_function
-- What the triggers of a frozen store call. The row of a transaction that copies a store is written all the same.
CREATE OR REPLACE FUNCTION {schema}.mpdispatch_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.mpdispatch_meta WHERE key = 'move_writes') THEN
        RAISE EXCEPTION USING ERRCODE = 'MPD01', MESSAGE = 'mpdispatch: this store '
            || (SELECT value FROM {schema}.mpdispatch_meta WHERE key = 'frozen');
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;

-- name: drop_guard_function
-- With the triggers that call it.
DROP FUNCTION IF EXISTS {schema}.mpdispatch_frozen() CASCADE;

-- name: guard
-- Waits for the transactions that write to the table now.
CREATE TRIGGER mpdispatch_frozen BEFORE INSERT OR UPDATE OR DELETE ON {schema}.{table}
FOR EACH ROW EXECUTE FUNCTION {schema}.mpdispatch_frozen();

-- name: last_id
-- The last id of the sequence; none was given: 0.
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{literal}', 'id')::regclass), 0);

-- name: last_job_id
-- That of a job which was pruned may be the highest.
SELECT id FROM {schema}.mpdispatch_last_id;

-- name: raise_last_id
-- Never lower than what the table holds.
SELECT setval(
    pg_get_serial_sequence('{literal}', 'id'),
    greatest(
        ?,
        coalesce(pg_sequence_last_value(pg_get_serial_sequence('{literal}', 'id')::regclass), 0),
        (SELECT coalesce(max(id), 0) FROM {schema}.{table})
    )
);
