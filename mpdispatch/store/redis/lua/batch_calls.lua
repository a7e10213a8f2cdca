-- The calls about batches.

-- A batch as people see it: with the first start of its members, as far as is known.
local function shown(batch)
  local began = batch.began
  if not batch.done then
    local first = tonumber(call('ZRANGE', P .. 'active:' .. batch.id, 0, 0, 'WITHSCORES')[2])
    began = first and math.min(first, began or first) or began
  end
  local callbacks = {}
  for event, new in pairs(batch.calls or {}) do
    callbacks[#callbacks + 1] = { event, new.name, batch.called and batch.called[event] or false }
  end
  return {
    id = batch.id, name = batch.name, made = batch.made, open = batch.open, began = began, done = batch.done,
    stop = batch.stop, total = batch.total, n = batch.n, max = batch.max, share = batch.share,
    callbacks = #callbacks > 0 and callbacks or nil, now = now.wall,
  }
end

function calls.batch_open(args)
  local batch = batches.open(args.batch)
  work.flush()
  return { batch = shown(batch) }
end

function calls.batch_close(args)
  local batch = batches.need(args.id)
  batch.open = false
  batches.changed(batch)
  work.flush()
  follow.judged(batch)
  work.flush()
  return { batch = shown(batch) }
end

function calls.batch_get(args)
  return { batch = shown(batches.need(args.id)) }
end

function calls.batch_of_key(args)
  local id = work.hget('batch_keys', args.key)
  return { batch = id and shown(batches.need(tonumber(id))) or false }
end

function calls.batch_page(args)
  local found, more = lists.batches(args.where, args.before, args.limit)
  for place, batch in ipairs(found) do
    found[place] = shown(batch)
  end
  return { batches = found, before = more or false }
end

-- One step: begin with `begins`; say whether there is more to do.
function calls.batch_cancel(args)
  local batch = batches.need(args.id)
  if args.begins then
    if batch.done then
      return { has_more = false }
    end
    batches.stop(batch)
    work.flush()
  end
  if batch.sweep then
    follow.sweep(batch)
    work.flush()
  end
  work.tells_work = true
  return { has_more = batch.sweep ~= nil }
end

-- One step over the members after an id: the failed ones are enqueued again.
function calls.batch_retry(args)
  local found = call('ZRANGEBYSCORE', P .. 'members:' .. args.id, '(' .. text(args.after), text(args.last), 'LIMIT', 0,
    args.most)
  for place, id in ipairs(found) do
    found[place] = tonumber(id)
  end
  jobs.fetch(found)
  for _, id in ipairs(found) do
    local old = jobs.get(id)
    if old and old.state == 'failed' and not old.again then
      local job, is_new = again.enqueue(id)
      if is_new then
        view.add({ job })
      end
    end
  end
  work.flush()
  return { after = #found == args.most and found[#found] or false }
end

function calls.batch_members(args)
  local found = call('ZRANGEBYSCORE', P .. 'members:' .. args.id, '(' .. text(args.after), '+inf', 'LIMIT', 0, args.limit)
  for place, id in ipairs(found) do
    found[place] = tonumber(id)
  end
  jobs.fetch(found)
  for _, id in ipairs(found) do
    view.add({ jobs.get(id) })
  end
  return {}
end

-- The id of its last member.
function calls.batch_last(args)
  batches.need(args.id)
  return { last = tonumber(call('ZREVRANGE', P .. 'members:' .. args.id, 0, 0)[1]) or 0 }
end
