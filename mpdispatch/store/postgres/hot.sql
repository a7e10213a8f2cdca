-- name: insert_once
-- One job that is looked for by the key of its enqueue if the answer is lost.
INSERT INTO mpdispatch_jobs (state, lane, run_at_us, created_at_us, expires_at_us, $new, payload, enqueue_key)
VALUES (?, ?, ?, ?, ?, $new_values, ?, ?)
ON CONFLICT (enqueue_key) WHERE enqueue_key IS NOT NULL DO NOTHING
RETURNING id;

-- name: id_of_enqueue
-- The job that an earlier try has inserted.
SELECT id FROM mpdispatch_jobs WHERE enqueue_key = ?;

-- name: insert_unless_key_in_use
-- Takes no id of the sequence if the key is in use, unless another transaction has used it meanwhile.
INSERT INTO mpdispatch_jobs (state, lane, run_at_us, created_at_us, expires_at_us, $new, payload)
SELECT * FROM (
    VALUES (?, ?::bigint, ?::bigint, ?::bigint, ?::bigint, $new_typed, ?)
) AS given (state, lane, run_at_us, created_at_us, expires_at_us, $new, payload)
WHERE NOT EXISTS (
    SELECT 1 FROM mpdispatch_jobs AS j
    WHERE j.name = given.name AND j.idempotency_key = given.idempotency_key
)
ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id;

-- name: insert_alike
-- Jobs that differ in nothing but their payloads, with the ids of the sequence in their order.
INSERT INTO mpdispatch_jobs (state, lane, run_at_us, created_at_us, expires_at_us, $new, payload)
SELECT ?, ?::bigint, ?::bigint, ?::bigint, ?::bigint, $new_typed, each.payload
FROM unnest(?::text[]) WITH ORDINALITY AS each (payload, place)
ORDER BY each.place
RETURNING id;

-- name: due_now
-- Of one queue, in the order of claiming, by its index.
SELECT id, starts + 1, attempt + 1, $claimed, convert_to(payload, 'UTF8') FROM mpdispatch_jobs
WHERE lane = 1 AND queue = ? ORDER BY priority DESC, run_at_us, id LIMIT ? OFFSET ?;

-- name: due_of_many
-- The same of many queues, and of parked jobs by name: at most so many of each, merged.
SELECT found.* FROM (
    SELECT r.* FROM jsonb_to_recordset(:due::jsonb) AS a (queue text, most bigint)
    CROSS JOIN LATERAL (
        SELECT id, starts + 1, attempt + 1, $claimed, convert_to(payload, 'UTF8') FROM mpdispatch_jobs
        WHERE lane = 1 AND queue = a.queue ORDER BY priority DESC, run_at_us, id LIMIT a.most
    ) AS r
    UNION ALL
    SELECT r.* FROM jsonb_to_recordset(:parked::jsonb) AS a (queue text, name text, most bigint)
    CROSS JOIN LATERAL (
        SELECT id, starts + 1, attempt + 1, $claimed, convert_to(payload, 'UTF8') FROM mpdispatch_jobs
        WHERE lane = 3 AND name = a.name AND queue = a.queue ORDER BY priority DESC, run_at_us, id LIMIT a.most
    ) AS r
) AS found
ORDER BY priority DESC, run_at_us, id LIMIT :limit OFFSET :offset;

-- name: take_these
-- First starts and later ones: the values of an earlier start are cleared.
UPDATE mpdispatch_jobs SET
    state = 'running', lane = NULL, owner = ?, starts = starts + 1, attempt = attempt + 1, started_at_us = ?,
    worker_pid = NULL, cpu_us = NULL, max_rss_bytes = NULL, blocked_reason = NULL, progress = NULL
WHERE id IN (
    SELECT id FROM mpdispatch_jobs
    WHERE id = ANY(ARRAY(SELECT jsonb_array_elements_text(?::jsonb)::bigint)) AND lane IN (1, 3)
    FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id;

-- name: complete
-- All plain completions of a commit, as arrays.
UPDATE mpdispatch_jobs AS j SET
    state = 'completed',
    completed_at_us = done.at_us,
    owner = NULL,
    started_at_us = done.started_at_us,
    result = done.result,
    worker_pid = done.worker_pid,
    duration_us = done.duration_us,
    cpu_us = done.cpu_us,
    max_rss_bytes = done.max_rss_bytes
FROM unnest(
    ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]
) AS done (id, starts, at_us, started_at_us, result, worker_pid, duration_us, cpu_us, max_rss_bytes)
WHERE j.id = done.id AND j.starts = done.starts AND j.owner = ?;
