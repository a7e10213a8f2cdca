-- Enqueueing ended jobs again: a new job takes the place of the old one.

local function copy_of(old)
  return {
    name = old.name, queue = old.queue, priority = old.priority, retries = old.retries, timeout = old.timeout,
    trace = old.trace, slot = old.slot, batch = old.batch, from = old.id, payload = jobs.text_of(old, 'payload'),
    -- Whoever enqueues a job again that was cancelled for a parent wants it to wait for that one's retry.
    policy = old.policy or 'wait',
  }
end

-- The new job of an ended one, made now or before, and whether it was made now; nil: the job is in another state.
function again.enqueue(id)
  local before = work.hget('retried', id)
  if before then
    return jobs.need(tonumber(before)), false
  end
  local old = jobs.get(id)
  if not old or not jobs.has_failed(old) then
    return nil
  end
  local job = jobs.make(copy_of(old))
  if job.batch then
    work.zadd('members:' .. job.batch, job.id, job.id)
  end
  batches.replaced(old)
  parents.replaced(old, job)
  places.replaced(old, job.id)
  parents.wait_again(old, job)
  if old.letter and not old.closed then
    old.replayed, old.replayed_as = now.wall, job.id
    letters.close(old)
  end
  crons.retried(id, job.id)
  places.enter(job)
  work.flush()
  return job, true
end

-- Run a waiting job now, or enqueue an ended one again; nil: it is in another state.
function again.retry(id)
  local job = jobs.get(id)
  if job and LATER[job.state] then
    jobs.run_now(job)
    return job, true
  end
  return again.enqueue(id)
end

-- Whether nobody has seen to it meanwhile: whoever selects very many means those.
function again.may(id)
  local job = jobs.get(id)
  if not job then
    return false
  elseif job.state == 'cancelled' then
    return not job.again
  end
  return LATER[job.state] or (job.letter and not job.closed)
end
