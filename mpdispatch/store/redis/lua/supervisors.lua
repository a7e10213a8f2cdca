-- Registrations: the hash `supervisors`, by owner. `owned:<owner>` has its running jobs with their starts as scores.

function supervisors.get(owner)
  local packed = work.hget('supervisors', owner)
  return packed and unpacked(packed)
end

function supervisors.need(owner)
  return supervisors.get(owner) or refuse('lease_lost', owner)
end

local function keep(owner, row)
  work.hset('supervisors', owner, pack(row))
end

function supervisors.register(who, ttl)
  local owner = ids.next('owner')
  work.later('SADD', 'owners', owner)
  keep(owner, { who = who, started = now.wall, beat = now.wall, boot = now.boot, ttl = ttl, renewed = 1 })
  return owner
end

function supervisors.renew(owner, ttl)
  local row = supervisors.need(owner)
  row.beat, row.boot, row.ttl, row.renewed = now.wall, now.boot, ttl, row.renewed + 1
  keep(owner, row)
end

function supervisors.unregister(owner)
  work.hdel('supervisors', owner)
  if call('EXISTS', P .. 'owned:' .. owner) == 0 then
    work.later('SREM', 'owners', owner)
  end
end

-- By owner: who they are and how long their leases last.
function supervisors.all()
  local found, owners = call('HGETALL', P .. 'supervisors'), {}
  for at = 1, #found, 2 do
    local row = unpacked(found[at + 1])
    owners[#owners + 1] = {
      tonumber(found[at]), row.who, row.started, row.beat, row.boot + row.ttl - now.boot, row.renewed,
    }
  end
  table.sort(owners, function(one, other) return one[1] < other[1] end)
  return owners
end

-- (job id, starts) pairs.
function supervisors.pairs_of(key)
  local found, list = call('ZRANGE', P .. key, 0, -1, 'WITHSCORES'), {}
  for at = 1, #found, 2 do
    list[#list + 1] = { tonumber(found[at]), tonumber(found[at + 1]) }
  end
  return list
end

function supervisors.owned(owner)
  return supervisors.pairs_of('owned:' .. owner)
end

-- The running jobs, by id.
function supervisors.jobs_of(owner)
  local wanted, found = {}, {}
  for place, start in ipairs(supervisors.owned(owner)) do
    wanted[place] = start[1]
  end
  table.sort(wanted)
  jobs.fetch(wanted)
  for place, id in ipairs(wanted) do
    found[place] = jobs.get(id)
  end
  return found
end

-- Owners that have running jobs and no registration. `owners` has all that may own jobs.
function supervisors.unknown()
  local found = {}
  for _, owner in ipairs(call('SMEMBERS', P .. 'owners')) do
    if call('HEXISTS', P .. 'supervisors', owner) == 0 and call('EXISTS', P .. 'owned:' .. owner) == 1 then
      found[#found + 1] = tonumber(owner)
    end
  end
  table.sort(found)
  return found
end

local function covers(transitions, owned)
  local covered = {}
  for _, each in ipairs(transitions) do
    covered[each.id .. ':' .. each.starts] = true
  end
  for _, start in ipairs(owned) do
    if not covered[start[1] .. ':' .. start[2]] then
      return false
    end
  end
  return true
end

-- Record the outcomes of a dead supervisor's jobs and strike it off. Nothing of it, if it has renewed since it was read
-- (`renewed`; nil: it is not registered), or if a job of it would be left over.
function supervisors.take_over(owner, renewed, transitions)
  local row, owned = supervisors.get(owner), supervisors.owned(owner)
  local is_as_seen
  if renewed then
    is_as_seen = row and row.renewed == renewed
  else
    is_as_seen = not row and #owned > 0
  end
  if not is_as_seen or not covers(transitions, owned) then
    return false, follow.new()
  end
  local _, _, followed = finish.all(owner, transitions)
  supervisors.unregister(owner)
  work.later('SREM', 'owners', owner)
  return true, followed
end
