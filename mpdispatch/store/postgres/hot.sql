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

-- name: commit
-- The query `complete`, and with it: the flags of the query `probe`, the batches that have these members, and the next
-- jobs of a queue if nothing is to be looked at before them. A row that another transaction holds is waited for.
WITH done AS (
    $complete
    RETURNING j.batch_id, j.started_at_us
),
seen AS (
    SELECT
        EXISTS (SELECT 1 FROM mpdispatch_supervisors WHERE id = :owner) AS is_registered,
        EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 2) AS has_later,
        EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE lane = 3) AS has_parked,
        EXISTS (SELECT 1 FROM mpdispatch_queues WHERE is_paused = 1) AS has_paused,
        EXISTS (SELECT 1 FROM mpdispatch_batches WHERE ended_at_us IS NULL)
        OR EXISTS (SELECT 1 FROM mpdispatch_dependents) AS has_followers,
        EXISTS (SELECT 1 FROM mpdispatch_batches WHERE cancelling_before IS NOT NULL) AS has_cancelling,
        EXISTS (SELECT 1 FROM mpdispatch_dependents) AS has_dependents
),
plain AS (
    SELECT NOT (has_parked OR has_paused OR has_cancelling OR has_dependents) AND NOT (
        has_later AND (
            EXISTS (
                SELECT 1 FROM mpdispatch_jobs
                WHERE lane = 2 AND queue = :queue AND state = 'scheduled' AND run_at_us <= :now
            )
            OR EXISTS (
                SELECT 1 FROM mpdispatch_jobs
                WHERE lane = 2 AND queue = :queue AND state = 'retrying' AND run_at_us <= :now
            )
        )
    ) AS is_open
    FROM seen
),
counted AS (
    UPDATE mpdispatch_batches AS b SET
        completed = b.completed + m.count, started_at_us = least(b.started_at_us, m.first_us)
    FROM (
        SELECT batch_id, count(*) AS count, min(started_at_us) AS first_us
        FROM done WHERE batch_id IS NOT NULL GROUP BY batch_id
    ) AS m
    WHERE b.id = m.batch_id
    RETURNING json_build_array($judged) AS judged
),
taken AS (
    UPDATE mpdispatch_jobs AS j SET
        state = 'running', lane = NULL, owner = :owner, starts = starts + 1, attempt = attempt + 1,
        started_at_us = :now, worker_pid = NULL, cpu_us = NULL, max_rss_bytes = NULL, progress = NULL
    FROM (
        SELECT id FROM mpdispatch_jobs
        WHERE lane = 1 AND queue = :queue AND (SELECT is_open FROM plain)
        ORDER BY priority DESC, run_at_us, id LIMIT :slots
    ) AS due
    WHERE j.id = due.id AND j.lane + 0 = 1
    RETURNING j.id, starts, attempt, $claimed, convert_to(payload, 'UTF8') AS payload
)
SELECT
    s.is_registered, s.has_later, s.has_parked, s.has_paused, s.has_followers, s.has_cancelling, s.has_dependents,
    p.is_open, (SELECT count(*) FROM done), (SELECT json_agg(judged)::text FROM counted), t.*
FROM seen AS s CROSS JOIN plain AS p LEFT JOIN taken AS t ON true;
