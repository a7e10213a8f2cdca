-- The calls of clients. Each takes its arguments as a table and gives what its reply says; jobs go to `view`.

function calls.enqueue(args)
  local job, is_new = jobs.enqueue(args.job)
  work.flush()
  view.add({ job })
  return { created = is_new }
end

-- Jobs alike but for their payloads come as one template.
local function each_of(args)
  if not args.template then
    return args.jobs or {}
  end
  local all = {}
  for place, payload in ipairs(args.payloads) do
    local new = {}
    for field, value in pairs(args.template) do
      new[field] = value
    end
    new.payload = payload
    all[place] = new
  end
  return all
end

function calls.enqueue_many(args)
  local all, made = each_of(args), {}
  if args.batch_id and #all == 0 and not args.closes then
    return { batch = args.batch_id, ids = made } -- nothing is done to it: nobody looks whether it is there
  end
  local batch = args.batch_id and batches.need(args.batch_id) or batches.open(args.batch)
  for place, new in ipairs(all) do
    new.batch = batch.id
    made[place] = jobs.enqueue(new).id
  end
  work.flush()
  if args.closes then
    batch.open = false
    batches.changed(batch)
    follow.judged(batch)
    work.flush()
  end
  local is_run = #made > 0 and made[#made] - made[1] == #made - 1
  for place = 2, #made do
    is_run = is_run and made[place] == made[1] + place - 1
  end
  return { batch = batch.id, ids = not is_run and made or nil, first = is_run and made[1] or nil, count = #made }
end

function calls.get(args)
  view.add({ jobs.need(args.id) })
  return {}
end

function calls.state_of(args)
  return { state = jobs.need(args.id).state }
end

local function outputs_of(id)
  local found, list = call('HGETALL', P .. 'outputs:' .. id), {}
  for at = 1, #found, 2 do
    local starts, stream = string.match(found[at], '^(%d+):(.*)$')
    list[#list + 1] = { tonumber(starts), stream, found[at + 1] }
  end
  return list
end

function calls.attempts(args)
  view.add({ jobs.need(args.id) })
  return { attempts = call('LRANGE', P .. 'attempts:' .. args.id, 0, -1), outputs = outputs_of(args.id) }
end

function calls.outputs(args)
  jobs.need(args.id)
  return { outputs = outputs_of(args.id) }
end

function calls.list_jobs(args)
  local found, more = lists.scan(args.where, args.before, args.limit)
  view.add(found)
  return { before = more or false }
end

function calls.queue_stats()
  local all = {}
  for _, queue in ipairs(queues.names()) do
    local pause = queues.pause_of(queue)
    if pause ~= nil or lists.has_jobs(queue) then
      all[#all + 1] = { queue, pause or false, lists.counts(queue) }
    end
  end
  return { queues = all }
end

function calls.cancel(args)
  local job = jobs.need(args.id)
  if ENDED[job.state] then
    refuse('invalid_state', { job.id, job.state })
  end
  jobs.cancel(job)
  work.flush()
  view.add({ job })
  return {}
end

function calls.retry(args)
  local job, is_new = again.retry(args.id)
  if not job then
    local old = jobs.need(args.id)
    refuse('invalid_state', { old.id, old.state, old.open and old.open[1] or false, old.open and #old.open or 0 })
  end
  work.flush()
  view.add({ job })
  return { created = is_new }
end

function calls.retry_many(args)
  jobs.fetch(args.ids)
  for _, id in ipairs(args.ids) do
    if again.may(id) then
      local job, is_new = again.retry(id)
      if job and is_new then
        view.add({ job })
      end
    end
  end
  work.flush()
  return {}
end

function calls.set_paused(args)
  queues.set(args.queue, args.paused and '1' or '0')
  work.flush()
  work.tells_work = not args.paused
  return {}
end

function calls.parents(args)
  local job, found = jobs.get(args.id), {}
  for place, id in ipairs(job and (args.only_open and job.open or not args.only_open and job.after) or {}) do
    local parent = jobs.get(id)
    found[place] = { id, parent and parent.state or false }
  end
  return { parents = found }
end

function calls.dependents(args)
  local waiting, found = 0, parents.dependents(args.id)
  for _, id in ipairs(found) do
    local job = jobs.get(id)
    waiting = waiting + (job and job.open and 1 or 0)
  end
  return { waiting = waiting, total = #found }
end

function calls.parked()
  local found, waiting = {}, 0
  for _, queue in ipairs(queues.names()) do
    lists.parked(queue, found)
    waiting = waiting + (tonumber(work.hget('waiting', queue)) or 0)
  end
  return { parked = found, waiting = waiting }
end

function calls.ahead(args)
  local job = jobs.get(args.id)
  local rank = job and places.is_due(job)
    and call('ZRANK', P .. 'due:' .. job.queue, places.member(job.run, job.id)) or 0
  return { ahead = rank or 0 }
end

function calls.queue_state(args)
  return {
    paused = queues.is_paused(args.queue), running = queues.size('running', args.queue),
    bucket = queues.bucket(args.queue) or false, now = now.boot,
  }
end

-- ---------------------------------------------------------------- dead letters

function calls.letter_count(args)
  if args.queue then
    return { count = tonumber(work.hget('letters:counts', args.queue)) or 0 }
  end
  return { count = call('ZCARD', P .. 'letters:open') }
end

function calls.letters(args)
  local found, more = letters.scan(args.where, args.before, args.limit)
  view.add(found)
  return { before = more or false }
end

function calls.letter(args)
  view.add({ letters.need(args.id) })
  return {}
end

function calls.replay(args)
  letters.need(args.id)
  local job, is_new = again.enqueue(args.id)
  work.flush()
  view.add({ job })
  return { created = is_new }
end

function calls.purge(args)
  local found, more = letters.scan(args.where, args.before, args.limit)
  for _, job in ipairs(found) do
    letters.purge(job)
  end
  work.flush()
  return { count = #found, before = more or false }
end

-- ---------------------------------------------------------------- pruning

function calls.excess(args)
  return { counts = prune.excess(args.states, args.keep) }
end

-- The time before which things are old: one that somebody has named, or an age by the server's clock.
local function old_before(args)
  return args.age and now.wall - args.age or args.before
end

function calls.older(args)
  return { count = prune.older(args.state, old_before(args)) }
end

function calls.prune(args)
  local seen, gone = prune.some(args.state, args.skip, args.count, args.most, args.ended_before, args.dry)
  work.flush()
  return { seen = seen, gone = gone }
end

function calls.prune_batches(args)
  local after = prune.batches(args.after, old_before(args))
  work.flush()
  return { after = after or false }
end

function calls.prune_crons(args)
  local count = 0
  for _, cron in ipairs(crons.all()) do
    count = count + crons.prune(cron, old_before(args))
  end
  work.flush()
  return { count = count }
end
