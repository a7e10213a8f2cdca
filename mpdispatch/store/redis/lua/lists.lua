-- Reading many jobs, in short steps: by id from the newest on, from the sets of their states and queues.

-- The next members of these sets before an id, the highest first: at most `limit`. Gives them and whether that is all.
local function newest_of(keys, before, limit)
  local found, is_all = {}, true
  local from = before and '(' .. text(before) or '+inf'
  for _, key in ipairs(keys) do
    local members = call('ZREVRANGEBYSCORE', P .. key, from, '-inf', 'LIMIT', 0, limit)
    is_all = is_all and #members < limit
    for _, id in ipairs(members) do
      found[#found + 1] = tonumber(id)
    end
  end
  table.sort(found, function(one, other) return one > other end)
  for place = #found, limit + 1, -1 do
    found[place], is_all = nil, false
  end
  return found, is_all
end

local function keys_of(where)
  if where.batch then
    return { 'members:' .. where.batch }
  end
  local states, keys = where.state and { where.state } or STATES, {}
  for _, queue in ipairs(where.queue and { where.queue } or queues.names()) do
    for _, state in ipairs(states) do
      keys[#keys + 1] = places.list(state, queue)
    end
    if not where.state or where.state == 'failed' then
      keys[#keys + 1] = places.list('replaced', queue)
    end
  end
  return keys
end

local function matches(job, where)
  return (where.state == nil or job.state == where.state)
    and (where.queue == nil or job.queue == where.queue)
    and (where.name == nil or job.name == where.name)
    and (where.batch == nil or (job.batch == where.batch and not job.again))
end

-- The next jobs before an id: at most `limit`, among AT_ONCE. Gives them and where to go on (nil: at the end).
function lists.scan(where, before, limit)
  local is_exact = not where.name and not where.batch
  local wanted, is_all = newest_of(keys_of(where), before, is_exact and limit or AT_ONCE)
  local found = {}
  jobs.fetch(wanted)
  for place, id in ipairs(wanted) do
    local job = jobs.get(id)
    if job and matches(job, where) then
      found[#found + 1] = job
    end
    if #found == limit then
      return found, not (is_all and place == #wanted) and id or nil
    end
  end
  return found, not is_all and wanted[#wanted] or nil
end

-- Number of jobs by state, of one queue.
function lists.counts(queue)
  local counts = {}
  for place, state in ipairs(STATES) do
    counts[place] = queues.size(state, queue)
  end
  return counts
end

function lists.has_jobs(queue)
  for _, count in ipairs(lists.counts(queue)) do
    if count > 0 then
      return true
    end
  end
  return queues.size('replaced', queue) > 0
end

-- (name, reason, count) of parked jobs.
function lists.parked(queue, found)
  local fields = call('HGETALL', P .. 'refused:' .. queue)
  for at = 1, #fields, 2 do
    local name, reason = string.match(fields[at], '^(.*)\n(.*)$')
    found[#found + 1] = { name, reason, tonumber(fields[at + 1]) }
  end
end

function lists.batches(where, before, limit)
  local wanted, is_all = newest_of({ 'batches' }, before, AT_ONCE)
  local found = {}
  for place, id in ipairs(wanted) do
    local batch = batches.get(id)
    local is_right = batch and (where.name == nil or batch.name == where.name)
      and (where.has_ended == nil or where.has_ended == (batch.done ~= nil))
    if is_right then
      found[#found + 1] = batch
    end
    if #found == limit then
      return found, not (is_all and place == #wanted) and id or nil
    end
  end
  return found, not is_all and wanted[#wanted] or nil
end
