-- The two tables that the store's own sessions need; `{schema}` is the schema's quoted name.

CREATE TABLE {schema}.mpdispatch_meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

-- One row per connection that has written lately, with the number of its last transaction, which writes it. A client that
-- has lost the answer to a COMMIT learns here what came of it. Old rows are pruned.
CREATE TABLE {schema}.mpdispatch_writers (
    key bigint PRIMARY KEY,
    number bigint NOT NULL,
    written_at_us bigint NOT NULL
) WITH (fillfactor = 50);
