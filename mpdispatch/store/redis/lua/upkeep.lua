-- What the store does for its jobs between commits: jobs that expired unclaimed, waits that a clock set back made longer.

local EXPIRE_AT_MOST = 500
local STEP = 1000000 -- a clock that falls behind by less was only slewed

-- One step of ending waiting jobs that have expired. Gives what followed, their number, and whether there may be more.
function upkeep.expire()
  local found = call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now.wall), 'LIMIT', 0, EXPIRE_AT_MOST)
  local followed, ended = follow.new(), {}
  for place, id in ipairs(found) do
    found[place] = tonumber(id)
  end
  jobs.fetch(found)
  for place, id in ipairs(found) do
    ended[place] = jobs.get(id)
    followed.ended[place] = finish.expire(ended[place])
  end
  follow.add(followed, follow.up(ended))
  return followed, #found, #found == EXPIRE_AT_MOST
end

-- As policy.waits.rebased_us.
local function rebased(run, put)
  local wait = run - put
  if wait < 0 or put - now.wall <= wait then
    return run
  end
  return now.wall + wait
end

-- One step over the jobs of a queue that were put off, from the place `skip` on. Gives how many wait anew, and where to go
-- on (nil: at the end). Those due within a moment are left: a change would not help them.
function upkeep.rebase(queue, skip)
  local found = call('ZRANGEBYSCORE', P .. 'later:' .. queue, '(' .. text(now.wall + STEP), '+inf', 'LIMIT', skip, AT_ONCE)
  local changed = 0
  for place, id in ipairs(found) do
    found[place] = tonumber(id)
  end
  jobs.fetch(found)
  for _, id in ipairs(found) do
    local job = jobs.get(id)
    local run = job.put and rebased(job.run, job.put) or job.run
    if run ~= job.run then
      places.leave(job)
      job.run = run
      places.enter(job)
      jobs.changed(job)
      changed = changed + 1
    end
  end
  return changed, #found == AT_ONCE and skip + AT_ONCE or nil
end
