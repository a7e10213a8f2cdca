-- name: parked_reasons
-- For people: by the parked index, then the rows for their reasons.
SELECT blocked_reason, count(*) FROM mpdispatch_jobs WHERE lane = 3 GROUP BY blocked_reason ORDER BY 2 DESC;

-- name: waiting_dependents
-- Jobs that wait for others.
SELECT count(*) FROM mpdispatch_dependents;

-- name: ahead
-- Due jobs of its queue that are claimed before it; capped, as it scans the index. Named parameters: a repeated `?`
-- is a second value to SQLite, which then does not use the index for the priority.
SELECT count(*) FROM (
    SELECT 1 FROM mpdispatch_jobs AS other
    WHERE other.lane = 1 AND other.queue = :queue
        AND (
            other.priority > :priority
            OR (other.priority = :priority AND (other.run_at_us, other.id) < (:run_at_us, :id))
        )
    ORDER BY other.priority DESC, other.run_at_us, other.id LIMIT 1000
) AS first;

-- name: place_of
-- Of a due job: the columns that decide when it is claimed.
SELECT queue, priority, run_at_us FROM mpdispatch_jobs WHERE id = ? AND lane = 1;

-- name: queue_state
-- Boottime means nothing in another boot.
SELECT
    (SELECT is_paused FROM mpdispatch_queues WHERE name = :queue),
    (SELECT count(*) FROM mpdispatch_jobs WHERE owner IS NOT NULL AND queue = :queue),
    (SELECT tat_us FROM mpdispatch_queues WHERE name = :queue AND tat_boot_id = :boot_id);
