-- Jobs that wait for others. `after` has the ids of a job's parents, `open` those it still waits for; the set
-- `dependents:<id>` has the jobs of which a job is a parent.

-- What stands in the place of a job now: itself, or the job that it was enqueued again as. nil: that was pruned.
local function latest(id, before)
  local job = id < before and jobs.get(id)
  while job and job.again do
    local next_id = job.again
    job = next_id < before and jobs.get(next_id)
  end
  return job or nil
end

local function check_times(new)
  local others = {}
  for _, pair in ipairs(new.parents_made or {}) do
    local job = jobs.get(pair[1])
    if job and job.made ~= pair[2] then
      others[#others + 1] = pair[1]
    end
  end
  if #others > 0 then
    refuse('unknown_parents', { others, true })
  end
end

local function of_ids(wanted, before)
  local found, unknown, seen = {}, {}, {}
  jobs.fetch(wanted)
  for _, id in ipairs(wanted) do
    local job = latest(id, before)
    if not job then
      unknown[#unknown + 1] = id
    elseif not seen[job.id] then
      seen[job.id] = true
      found[#found + 1] = job
    end
  end
  table.sort(found, function(one, other) return one.id < other.id end)
  return found, unknown
end

-- The parents of a new job, as they stand now; refused unless all are there.
function parents.of_new(new, id)
  local found, unknown = of_ids(new.after, id)
  check_times(new)
  if #unknown > 0 then
    refuse('unknown_parents', { unknown, false })
  end
  return found
end

-- A record says that it is a parent: so the end of any other job looks for no dependents.
function parents.add(parent, job)
  work.later('SADD', 'dependents:' .. parent.id, job.id)
  if not parent.parent then
    parent.parent = true
    jobs.changed(parent)
  end
end

local function is_open(parent, policy)
  if jobs.has_failed(parent) then
    return policy == 'wait'
  end
  return parent.state ~= 'completed'
end

-- Have a new job wait for these. Gives the parent for which it is to be cancelled at once, if there is one.
function parents.wait(job, found)
  local after, open, failed = {}, {}, nil
  for place, parent in ipairs(found) do
    after[place] = parent.id
    parents.add(parent, job)
    if is_open(parent, job.policy) then
      open[#open + 1] = parent.id
    end
    failed = failed or (jobs.has_failed(parent) and parent.id)
  end
  job.after = #after > 0 and after or nil
  job.open = #open > 0 and open or nil
  if job.open then
    job.state = 'pending' -- its time is looked at once they have ended
  end
  if failed and job.policy == nil then
    return failed
  end
end

-- A job that is enqueued again waits for what is in the places of its parents now, without pruned ones.
function parents.wait_again(old, job)
  if old.after then
    local found = of_ids(old.after, job.id)
    parents.wait(job, found)
  end
end

-- Cancel a job for a parent that has failed; what follows is the caller's.
function parents.blame(job, parent_id)
  local how = jobs.need(parent_id).state == 'failed' and 'failed' or 'was cancelled'
  local message = 'job ' .. parent_id .. ', which it waited for, ' .. how
  job.error = cjson.encode({ type = 'ParentFailedError', message = message })
  jobs.end_waiting(job)
end

-- The jobs that have this one as a parent, or had it, if it was pruned. By id.
function parents.dependents(id)
  local parent, found = jobs.get(id), {}
  if parent and not parent.parent then
    return found
  end
  for place, each in ipairs(call('SMEMBERS', P .. 'dependents:' .. id)) do
    found[place] = tonumber(each)
  end
  table.sort(found)
  jobs.fetch(found)
  return found
end

local function without(list, gone, instead)
  local kept, has = {}, false
  for _, each in ipairs(list) do
    if each ~= gone then
      kept[#kept + 1] = each
      has = has or each == instead
    end
  end
  if instead and not has and #kept < #list then
    kept[#kept + 1] = instead
    table.sort(kept)
  end
  return kept
end

local function has(list, wanted)
  for _, each in ipairs(list or {}) do
    if each == wanted then
      return true
    end
  end
  return false
end

-- An ended job was enqueued again: whoever still waits for it waits for the new one.
function parents.replaced(old, new)
  for _, id in ipairs(parents.dependents(old.id)) do
    local job = jobs.get(id)
    if job and has(job.open, old.id) then
      job.open = without(job.open, old.id, new.id)
      job.after = without(job.after, old.id, new.id)
      work.later('SREM', 'dependents:' .. old.id, id)
      parents.add(new, job)
      jobs.changed(job)
    end
  end
end

-- A dependent after the end of some of its parents, in the order of their ids. Gives whether it is cancelled.
local function go_on(job, ended)
  local open = job.open
  for _, parent in ipairs(ended) do
    if has(open, parent.id) then
      if parent.state == 'completed' or job.policy == 'run' then
        open = without(open, parent.id)
      elseif job.policy == nil then
        parents.blame(job, parent.id)
        return true
      end
    end
  end
  places.leave(job)
  job.open = #open > 0 and open or nil
  if not job.open and job.run > now.wall then
    job.state = 'scheduled'
  end
  places.enter(job)
  jobs.changed(job)
  return false
end

-- Go on with the jobs that wait for these. Gives those that are cancelled, and whether others may be due.
function parents.go_on(ended)
  local waiting, seen = {}, {}
  for _, parent in ipairs(ended) do
    for _, id in ipairs(parents.dependents(parent.id)) do
      local job = jobs.get(id)
      if job and not seen[id] and has(job.open, parent.id) then
        seen[id] = true
        waiting[#waiting + 1] = job
      end
    end
  end
  table.sort(waiting, function(one, other) return one.id < other.id end)
  table.sort(ended, function(one, other) return one.id < other.id end)
  local cancelled, has_due = {}, false
  for _, job in ipairs(waiting) do
    if go_on(job, ended) then
      cancelled[#cancelled + 1] = job
    elseif not job.open then
      has_due = true
    end
  end
  return cancelled, has_due
end

-- Whether a job that has not ended may read the result of this one.
function parents.keeps(id)
  for _, each in ipairs(parents.dependents(id)) do
    local job = jobs.get(each)
    if job and not ENDED[job.state] then
      return true
    end
  end
  return false
end
