-- Records of jobs: reading, changing, inserting, deleting. See the package's docstring for their fields.

-- Read the records of these ids that were not read yet, in few commands.
function jobs.fetch(wanted)
  local missing, keys = {}, {}
  for _, id in ipairs(wanted) do
    if work.jobs[id] == nil then
      missing[#missing + 1] = id
      keys[#keys + 1] = P .. 'job:' .. id
    end
  end
  for at = 1, #keys, AT_ONCE do
    local last = math.min(at + AT_ONCE - 1, #keys)
    for place, packed in ipairs(call('MGET', unpack(keys, at, last))) do
      local id = missing[at + place - 1]
      work.jobs[id] = packed and unpacked(packed)
      work.raw[id] = packed
    end
  end
end

-- The record; nil if there is no such job.
function jobs.get(id)
  if work.jobs[id] == nil then
    jobs.fetch({ id })
  end
  return work.jobs[id] or nil
end

function jobs.need(id)
  return jobs.get(id) or refuse('job_not_found', id)
end

function jobs.changed(job)
  work.changed_jobs[job.id] = true
end

function jobs.has_failed(job)
  return job.state == 'failed' or job.state == 'cancelled'
end

-- Keep a payload or a result, a large one beside the record.
function jobs.keep_text(job, field, value)
  if value and #value > INLINE_BYTES then
    work.later('SET', field .. ':' .. job.id, value)
    job[field] = nil
    job['far_' .. field] = true
  else
    job[field] = value
  end
end

function jobs.text_of(job, field)
  if job['far_' .. field] then
    return call('GET', P .. field .. ':' .. job.id) or nil
  end
  return job[field]
end

local function expiry(new, run)
  if new.expires or not new.expires_in then
    return new.expires
  end
  return new.expires_in + (new.slot and run or now.wall)
end

-- A new job in its record, in no place yet.
function jobs.make(new)
  local run = new.run or now.wall + (new.delay or 0)
  local job = {
    id = ids.next('job'), name = new.name, queue = new.queue, priority = new.priority, made = now.wall, run = run,
    state = run <= now.wall and 'pending' or 'scheduled', retries = new.retries, timeout = new.timeout,
    key = new.key, from = new.from, trace = new.trace, slot = new.slot, batch = new.batch,
    policy = new.policy, expires = expiry(new, run),
  }
  jobs.keep_text(job, 'payload', new.payload)
  work.jobs[job.id] = job
  jobs.changed(job)
  queues.know(job.queue)
  if job.key then
    work.hset('keys', jobs.key_of(job), job.id)
  end
  if job.from then
    work.hset('retried', job.from, job.id)
  end
  return job
end

function jobs.key_of(job)
  return #job.name .. ':' .. job.name .. ':' .. job.key
end

-- Insert a job: it takes its place in its batch, waits for its parents, or is due.
function jobs.insert(new)
  local batch = new.batch and batches.open_to_members(new.batch)
  local after = new.after and parents.of_new(new, ids.coming('job'))
  local job = jobs.make(new)
  if batch then
    batch.total = batch.total + 1
    batches.changed(batch)
    work.zadd('members:' .. batch.id, job.id, job.id)
  end
  local blamed = after and parents.wait(job, after)
  places.enter(job)
  if blamed then
    parents.blame(job, blamed)
    follow.up({ job })
  end
  return job
end

-- The job of a new one: the older job that has its key, or itself. Gives also whether it was made.
function jobs.enqueue(new)
  local older = new.key and work.hget('keys', jobs.key_of(new))
  if older then
    return jobs.need(tonumber(older)), false
  end
  return jobs.insert(new), true
end

-- Cancel a waiting job; what follows is the caller's.
function jobs.end_waiting(job)
  places.leave(job)
  job.state, job.done = 'cancelled', now.wall
  job.blocked, job.expires, job.open, job.put = nil, nil, nil, nil
  places.enter(job)
  jobs.changed(job)
end

-- Cancel a waiting job, ask the supervisor of a running one to end it.
function jobs.cancel(job)
  if job.state == 'running' then
    jobs.ask_to_end(job)
  else
    jobs.end_waiting(job)
    follow.up({ job })
  end
end

function jobs.ask_to_end(job)
  if not job.asked then
    job.asked = true
    work.zadd('asked:' .. job.owner, job.starts, job.id)
    jobs.changed(job)
  end
end

-- Run a job now that waits for its time.
function jobs.run_now(job)
  places.leave(job)
  job.state, job.run = 'pending', now.wall
  places.enter(job)
  jobs.changed(job)
end
