-- What the end of jobs does to the batches they are members of, and to the jobs that wait for them.
--
--     jobs have ended ─▶ a batch ends ─▶ its callbacks are enqueued
--                    │└▶ it has failed too often ─▶ its other members are cancelled ─┐
--                    └─▶ dependents become due, or are cancelled ───────────────────┤
--          ▲                                                                        │
--          └──────────────────────── these have ended, too ◀────────────────────────┘
--
-- Every call that ends jobs calls `up`. Dependents are looked for in one key of each ended job.

function follow.new()
  return { ended = {}, callbacks = {}, has_due = false }
end

function follow.add(followed, more)
  for _, each in ipairs(more.ended) do
    followed.ended[#followed.ended + 1] = each
  end
  for _, each in ipairs(more.callbacks) do
    followed.callbacks[#followed.callbacks + 1] = each
  end
  followed.has_due = followed.has_due or more.has_due
end

local EVENTS = { 'on_end', 'on_failure', 'on_success' } -- in the order of their names

-- Each callback once in the life of the batch, however often it ends.
local function call_back(batch, followed)
  -- Whoever cancels a batch, even one whose members have all completed by then, does not get what it was for.
  local is_success = batch.n.completed == batch.total and not batch.stop
  local result = is_success and 'on_success' or 'on_failure'
  for _, event in ipairs(EVENTS) do
    local new = batch.calls and batch.calls[event]
    if new and (event == 'on_end' or event == result) and not (batch.called and batch.called[event]) then
      new.payload = '{"batch":' .. batch.id .. '}'
      local job = jobs.enqueue(new)
      new.payload = nil
      batch.called = batch.called or {}
      batch.called[event] = job.id
      followed.callbacks[#followed.callbacks + 1] = job
      followed.has_due = true
    end
  end
end

-- End the batch, or begin to cancel its members, if that is due; gives the members cancelled.
function follow.judge(batch, is_worse, followed)
  if not batch.open and batches.ended_count(batch) >= batch.total then
    if not batch.done then
      batch.done = now.wall
      batches.changed(batch)
      work.tells_ends = true
      call_back(batch, followed)
    end
    return {}
  end
  if is_worse and not batch.stop and batches.has_too_many_failures(batch) then
    batches.stop(batch)
    work.flush() -- members of this very call are found then
    return batches.sweep_some(batch)
  end
  return {}
end

local function concerned(ended)
  local found, list = {}, {}
  for _, job in ipairs(ended) do
    local batch = job.batch and batches.get(job.batch)
    if batch then
      if job.began and (not batch.began or job.began < batch.began) then
        batch.began = job.began
      end
      if not found[batch.id] then
        found[batch.id] = { batch = batch, is_worse = false }
        list[#list + 1] = batch.id
      end
      found[batch.id].is_worse = found[batch.id].is_worse or job.state == 'failed'
    end
  end
  table.sort(list)
  return found, list
end

-- What follows from the end of these jobs, and from the ends that this causes in turn.
function follow.up(ended)
  local followed = follow.new()
  while #ended > 0 do
    local found, list = concerned(ended)
    local cancelled = {}
    for _, id in ipairs(list) do
      for _, job in ipairs(follow.judge(found[id].batch, found[id].is_worse, followed)) do
        cancelled[#cancelled + 1] = job
      end
    end
    local more, has_due = parents.go_on(ended)
    followed.has_due = followed.has_due or has_due
    for _, job in ipairs(more) do
      cancelled[#cancelled + 1] = job
    end
    for _, job in ipairs(cancelled) do
      followed.ended[#followed.ended + 1] = { id = job.id, kind = 'cancelled' }
    end
    ended = cancelled
  end
  return followed
end

-- The same from a batch whose members may be fewer or that may have ended without any.
function follow.judged(batch)
  local followed = follow.new()
  local cancelled = follow.judge(batch, true, followed)
  for _, job in ipairs(cancelled) do
    followed.ended[#followed.ended + 1] = { id = job.id, kind = 'cancelled' }
  end
  follow.add(followed, follow.up(cancelled))
  return followed
end

-- One step of cancelling the members of a batch that was cancelled. Gives what followed.
function follow.sweep(batch)
  local followed = follow.new()
  local cancelled = batches.sweep_some(batch)
  for _, job in ipairs(cancelled) do
    followed.ended[#followed.ended + 1] = { id = job.id, kind = 'cancelled' }
  end
  follow.add(followed, follow.up(cancelled))
  return followed
end

-- One step of that for any batch, if there is one.
function follow.sweep_any()
  local id = call('ZRANGE', P .. 'sweeping', 0, 0)[1]
  local batch = id and batches.get(tonumber(id))
  if batch and batch.sweep then
    return follow.sweep(batch)
  end
  return follow.new()
end
