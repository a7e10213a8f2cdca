-- Dead letters: fields of a failed job's record, and its places in the sets of letters by their numbers.

function letters.add(job, at)
  job.letter, job.failed = ids.next('letter'), at
  work.zadd('letters', job.letter, job.id)
  work.zadd('letters:open', job.letter, job.id)
  work.count('letters:counts', job.queue, 1)
end

-- It was replayed or purged. From now on its job may be pruned.
function letters.close(job)
  if not job.closed then
    job.closed = now.wall
    work.zrem('letters:open', job.id)
    work.count('letters:counts', job.queue, -1)
    work.zadd('settled:failed', job.closed, letters.settled_member(job))
  end
  jobs.changed(job)
end

-- Among letters that were closed at one time: in the order in which their jobs failed.
function letters.settled_member(job)
  return struct.pack('>I8I8', job.letter, job.id)
end

function letters.is_there(job)
  return job and job.letter and not job.purged
end

function letters.need(id)
  local job = jobs.get(id)
  if not letters.is_there(job) then
    refuse('letter_not_found', id)
  end
  return job
end

function letters.purge(job)
  job.purged = true
  work.zrem('letters', job.id)
  letters.close(job)
end

local function has_error(job, wanted)
  if not job.error then
    return false
  end
  local error = cjson.decode(job.error)
  local shown = error.message ~= '' and error.type .. ': ' .. error.message or error.type
  return string.find(shown, wanted, 1, true) ~= nil
end

function letters.matches(job, where)
  return (where.queue == nil or job.queue == where.queue)
    and (where.name == nil or job.name == where.name)
    and (where.batch == nil or job.batch == where.batch)
    and (where.is_replayed == nil or where.is_replayed == (job.replayed ~= nil))
    and (where.failed_before == nil or job.failed < where.failed_before)
    and (where.error == nil or has_error(job, where.error))
end

-- The next letters before a number, latest first: at most `limit`, among AT_ONCE. Gives them and where to go on (nil: at the
-- end).
function letters.scan(where, before, limit)
  local key = P .. (where.is_replayed == false and 'letters:open' or 'letters')
  local ids_found = call('ZREVRANGEBYSCORE', key, before and '(' .. text(before) or '+inf', '-inf', 'LIMIT', 0, AT_ONCE)
  for place, id in ipairs(ids_found) do
    ids_found[place] = tonumber(id)
  end
  jobs.fetch(ids_found)
  local found = {}
  for place, id in ipairs(ids_found) do
    local job = jobs.get(id)
    if job and letters.matches(job, where) then
      found[#found + 1] = job
    end
    if #found == limit or place == #ids_found then
      local is_last = place == #ids_found and #ids_found < AT_ONCE
      return found, not is_last and job and job.letter or nil
    end
  end
  return found, nil
end
