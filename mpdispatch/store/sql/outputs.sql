-- name: write_output
-- Guarded like an outcome: only output of this owner's running start. Before the outcome, in the same transaction.
INSERT INTO mpdispatch_outputs (job_id, starts, stream, written, text)
SELECT id, starts, ?, ?, ? FROM mpdispatch_jobs WHERE id = ? AND owner = ? AND starts = ? AND state = 'running'
ON CONFLICT (job_id, starts, stream) DO UPDATE SET written = excluded.written, text = excluded.text;

-- name: outputs_of
-- Oldest start first, by the primary key.
SELECT job_id, starts, stream, text, written FROM mpdispatch_outputs
WHERE job_id = ? ORDER BY job_id, starts, stream;
