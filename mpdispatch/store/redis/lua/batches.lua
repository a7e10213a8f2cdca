-- Records of batches: `n` has the number of members in each state; of ended members it goes on counting pruned ones.

function batches.get(id)
  if work.batches[id] == nil then
    local packed = call('GET', P .. 'batch:' .. id)
    work.batches[id] = packed and unpacked(packed)
  end
  return work.batches[id] or nil
end

function batches.need(id)
  return batches.get(id) or refuse('batch_not_found', id)
end

function batches.changed(batch)
  work.changed_batches[batch.id] = true
end

-- A member has come into its state, or is about to leave it.
function batches.count(job, change)
  local batch = batches.get(job.batch)
  if batch then
    batch.n[job.state] = batch.n[job.state] + change
    batches.changed(batch)
  end
end

function batches.open_to_members(id)
  local batch = batches.need(id)
  if not batch.open or batch.stop then
    refuse('batch_closed', { id, batch.stop and true or false })
  end
  return batch
end

-- A new batch, or the one that has its key.
function batches.open(new)
  local older = new.key and work.hget('batch_keys', new.key)
  if older then
    return batches.need(tonumber(older))
  end
  local batch = {
    id = ids.next('batch'), name = new.name, made = now.wall, open = true, total = 0, n = {},
    max = new.max, share = new.share, calls = new.calls, key = new.key,
  }
  for _, state in ipairs(STATES) do
    batch.n[state] = 0
  end
  work.batches[batch.id] = batch
  batches.changed(batch)
  work.zadd('batches', batch.id, batch.id)
  if batch.key then
    work.hset('batch_keys', batch.key, batch.id)
  end
  return batch
end

function batches.ended_count(batch)
  return batch.n.completed + batch.n.failed + batch.n.cancelled
end

function batches.has_too_many_failures(batch)
  local failed = batch.n.failed
  return (batch.max and failed > batch.max)
    or (batch.share and not batch.open and failed > batch.share * batch.total)
end

-- An ended member was enqueued again: its place is the new job's, and the batch has not ended then.
function batches.replaced(old)
  local batch = old.batch and batches.get(old.batch)
  if not batch then
    return
  end
  if old.again then
    batch.total = batch.total + 1 -- its place went to a job that was pruned
  else
    batch.n[old.state] = batch.n[old.state] - 1
  end
  batch.done, batch.stop, batch.sweep = nil, nil, nil
  work.zrem('sweeping', batch.id)
  batches.changed(batch)
end

-- From now on it takes no members, and the waiting ones are to be cancelled.
function batches.stop(batch)
  if not batch.stop and not batch.done then
    batch.stop = now.wall
  end
  batch.sweep = 9007199254740991
  work.zadd('sweeping', batch.id, batch.id)
  batches.changed(batch)
end

-- Cancel the waiting ones among the last members before `sweep`, ask all running ones to end; gives those cancelled.
-- Whoever runs at any step is asked to end and is not run again then: one pass over all members is enough.
function batches.sweep_some(batch)
  local found = call('ZREVRANGEBYSCORE', P .. 'members:' .. batch.id, '(' .. text(batch.sweep), '-inf', 'LIMIT', 0,
    AT_ONCE)
  local wanted, cancelled = {}, {}
  for place, id in ipairs(found) do
    wanted[place] = tonumber(id)
  end
  jobs.fetch(wanted)
  for _, id in ipairs(wanted) do
    local job = jobs.get(id)
    if job and not ENDED[job.state] and job.state ~= 'running' then
      jobs.end_waiting(job)
      cancelled[#cancelled + 1] = job
    end
  end
  for _, id in ipairs(call('ZRANGE', P .. 'active:' .. batch.id, 0, -1)) do
    local job = jobs.get(tonumber(id))
    if job and job.state == 'running' then
      jobs.ask_to_end(job)
    end
  end
  batch.sweep = #wanted == AT_ONCE and wanted[#wanted] or nil
  if not batch.sweep then
    work.zrem('sweeping', batch.id)
  end
  batches.changed(batch)
  return cancelled
end
