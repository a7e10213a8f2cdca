-- name: complete
-- All plain completions of a commit, as arrays. By the key: `+ 0` keeps the index of running jobs out.
UPDATE mpdispatch_jobs AS j SET
    state = 'completed',
    completed_at_us = d.at_us,
    owner = NULL,
    started_at_us = d.started_at_us,
    result = d.result,
    worker_pid = d.worker_pid,
    duration_us = d.duration_us,
    cpu_us = d.cpu_us,
    max_rss_bytes = d.max_rss_bytes
FROM unnest(
    :ids::bigint[], :starts::bigint[], :at::bigint[], :started::bigint[], :results::text[], :pids::bigint[],
    :durations::bigint[], :cpu::bigint[], :rss::bigint[]
) AS d (id, starts, at_us, started_at_us, result, worker_pid, duration_us, cpu_us, max_rss_bytes)
WHERE j.id = d.id AND j.starts = d.starts AND j.owner + 0 = :owner;
