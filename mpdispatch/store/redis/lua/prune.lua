-- Deleting ended jobs. `settled:<state>` has those that nobody need see to any more, the first to have settled first: failed
-- ones from the moment at which their dead letters were closed.

local SETTLED = { 'completed', 'cancelled', 'failed' }

local function key_of(state)
  return P .. 'settled:' .. state
end

local function count_from(states, score)
  local count = 0
  for _, state in ipairs(states) do
    count = count + call('ZCOUNT', key_of(state), text(score), '+inf')
  end
  return count
end

-- The latest time from which on all these states together have more than `keep` settled jobs; nil: they have no more.
local function time_of(states, keep)
  local low, high = -9007199254740992, 9007199254740992
  if count_from(states, low) <= keep then
    return nil
  end
  while high - low > 1 do
    local middle = math.floor(low / 2 + high / 2)
    if count_from(states, middle) > keep then
      low = middle
    else
      high = middle
    end
  end
  return low
end

-- How many of the first jobs of each state are not among the `keep` last ones of all.
function prune.excess(states, keep)
  local counts, at = {}, time_of(states, keep)
  for _, state in ipairs(states) do
    counts[state] = at and call('ZCOUNT', key_of(state), '-inf', '(' .. text(at)) or 0
  end
  if not at then
    return counts
  end
  local ties, more = {}, count_from(states, at) - keep
  for _, state in ipairs(states) do
    for _, member in ipairs(call('ZRANGEBYSCORE', key_of(state), text(at), text(at))) do
      ties[#ties + 1] = { (state == 'failed' and '1' or '0') .. member, state } -- failed ones come last
    end
  end
  table.sort(ties, function(one, other) return one[1] < other[1] end)
  for place = 1, more do
    local state = ties[place][2]
    counts[state] = counts[state] + 1
  end
  return counts
end

function prune.older(state, before)
  return call('ZCOUNT', key_of(state), '-inf', '(' .. text(before))
end

local function id_of(member)
  return (struct.unpack('>I8', string.sub(member, -8)))
end

-- Out of everything that is kept of it. Its parents still count it until then, its batch goes on counting it.
local function delete(job, state, member)
  places.forget(job)
  work.zrem('settled:' .. state, member)
  if job.letter then
    work.zrem('letters', job.id)
  end
  if job.key and work.hget('keys', jobs.key_of(job)) == tostring(job.id) then
    work.hdel('keys', jobs.key_of(job))
  end
  if job.from and work.hget('retried', job.from) == tostring(job.id) then
    work.hdel('retried', job.from)
  end
  if job.batch then
    work.zrem('members:' .. job.batch, job.id)
  end
  for _, id in ipairs(job.after or {}) do
    work.later('SREM', 'dependents:' .. id, job.id)
  end
  work.hdel('cron_of', job.id)
  for _, kind in ipairs({ 'job:', 'attempts:', 'outputs:', 'payload:', 'result:' }) do
    work.later('UNLINK', kind .. job.id)
  end
  work.jobs[job.id], work.changed_jobs[job.id] = false, nil
end

-- One step: of the first `count` settled jobs of this state those from the place `skip` on, at most `most`. Jobs that ended
-- before `ended_before` go, but for those whose ends somebody has yet to see. Gives how many were looked at and went.
function prune.some(state, skip, count, most, ended_before, is_dry)
  local last = math.min(skip + most, count) - 1
  local members = last >= skip and call('ZRANGE', key_of(state), text(skip), text(last)) or {}
  local wanted, gone = {}, 0
  for place, member in ipairs(members) do
    wanted[place] = id_of(member)
  end
  jobs.fetch(wanted)
  for place, id in ipairs(wanted) do
    local job = jobs.get(id)
    local is_old = job and (not ended_before or job.done < ended_before)
    if is_old and not crons.keeps(id) and not (job.parent and parents.keeps(id)) then
      gone = gone + 1
      if not is_dry then
        delete(job, state, members[place])
      end
    end
  end
  return #members, gone
end

-- One step over the batches after an id: those go that ended before `before` (nil: at any time) and have no members left.
-- Gives where to go on.
function prune.batches(after, before)
  local found = call('ZRANGEBYSCORE', P .. 'batches', '(' .. text(after), '+inf', 'LIMIT', 0, AT_ONCE)
  for _, id in ipairs(found) do
    local batch = batches.get(tonumber(id))
    if batch and batch.done and (not before or batch.done < before)
      and call('EXISTS', P .. 'members:' .. id) == 0 then
      work.zrem('batches', batch.id)
      work.later('UNLINK', 'batch:' .. id)
      if batch.key then
        work.hdel('batch_keys', batch.key)
      end
      work.batches[batch.id], work.changed_batches[batch.id] = false, nil
    end
  end
  return #found == AT_ONCE and tonumber(found[#found]) or nil
end
