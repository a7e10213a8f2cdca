-- Where a job stands: the sorted sets of its state, in which claims, lists and counts find it. `leave` before a change of
-- its state, queue, priority, time, owner or open parents; `enter` after it. Nothing else adds to these sets.

-- The place in the order of claiming: times and ids in a form that is ordered as bytes are. The priority is the score.
function places.member(run, id)
  local high = math.floor(run / 4294967296)
  return struct.pack('>I4I4I8', high + 2147483648, run - high * 4294967296, id)
end

function places.of_member(member)
  local high, low, id = struct.unpack('>I4I4I8', member)
  return (high - 2147483648) * 4294967296 + low, id
end

function places.is_due(job)
  return job.state == 'pending' and not job.blocked and not job.open
end

local names = {} -- of keys, made once in a call: a commit asks for the same ones hundreds of times

function places.begin()
  names = {}
end

local function name_of(kind, of)
  local of_kind = names[kind]
  if not of_kind then
    of_kind = {}
    names[kind] = of_kind
  end
  local found = of_kind[of]
  if not found then
    found = kind .. of
    of_kind[of] = found
  end
  return found
end

-- By id: the jobs of one state and queue. A failed job that was enqueued again is `replaced`, and in no count.
function places.list(state, queue)
  return 'jobs:' .. state .. ':' .. queue
end

local function list_of(job)
  local state = job.state == 'failed' and job.again and 'replaced' or job.state
  local of_queue = names[state]
  if not of_queue then
    of_queue = {}
    names[state] = of_queue
  end
  local found = of_queue[job.queue]
  if not found then
    found = places.list(state, job.queue)
    of_queue[job.queue] = found
  end
  return found
end

local function parked_key(job)
  return 'parked:' .. #job.queue .. ':' .. job.queue .. ':' .. job.name
end

-- Names parked in a queue and why, with their number: `name \n reason`.
local function parked_field(job)
  return job.name .. '\n' .. job.blocked
end

-- Among jobs that ended at one time: by id.
function places.settled_member(id)
  return struct.pack('>I8', id)
end

local function change_waiting(job, is_there)
  local score = is_there and -(job.priority or 0)
  if LATER[job.state] then
    work.place(name_of('later:', job.queue), job.id, is_there and job.run)
  elseif job.open then
    work.count('waiting', job.queue, is_there and 1 or -1)
  elseif job.blocked then
    work.place(parked_key(job), places.member(job.run, job.id), score)
    work.count('refused:' .. job.queue, parked_field(job), is_there and 1 or -1)
  else
    work.place(name_of('due:', job.queue), places.member(job.run, job.id), score)
  end
  if job.expires then
    work.place('expiring', job.id, is_there and job.expires)
  end
end

local function change_running(job, is_there)
  work.place(name_of('owned:', job.owner), job.id, is_there and job.starts)
  if job.batch then
    work.place(name_of('active:', job.batch), job.id, is_there and job.began)
  end
  if job.asked then
    work.place(name_of('asked:', job.owner), job.id, is_there and job.starts)
  end
end

local function change(job, is_there)
  work.place(list_of(job), job.id, is_there and job.id)
  if job.state == 'running' then
    change_running(job, is_there)
  elseif not ENDED[job.state] then
    change_waiting(job, is_there)
  elseif job.state ~= 'failed' then
    work.place(name_of('settled:', job.state), places.settled_member(job.id), is_there and job.done)
  end
end

function places.leave(job)
  change(job, false)
  if job.batch and not ENDED[job.state] then
    batches.count(job, -1)
  end
end

function places.enter(job)
  change(job, true)
  if job.batch then
    batches.count(job, 1)
  end
  if ENDED[job.state] then
    work.tells_ends = true
  elseif places.is_due(job) then
    work.tells_work = true
  end
end

-- Out of all sets, to be deleted. A batch goes on counting it.
function places.forget(job)
  change(job, false)
end

-- A failed job was enqueued again.
function places.replaced(job, by_id)
  change(job, false)
  job.again = by_id
  change(job, true)
  jobs.changed(job)
end
