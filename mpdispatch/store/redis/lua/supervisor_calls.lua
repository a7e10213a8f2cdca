-- The calls of supervisors.

function calls.register(args)
  local owner = supervisors.register(args.who, args.ttl)
  work.flush()
  return { owner = owner }
end

function calls.unregister(args)
  supervisors.unregister(args.owner)
  work.flush()
  return {}
end

function calls.renew(args)
  supervisors.renew(args.owner, args.ttl)
  work.flush()
  return { owned = supervisors.owned(args.owner) }
end

function calls.cancel_requests(args)
  return { starts = supervisors.pairs_of('asked:' .. args.owner) }
end

function calls.supervisors(args)
  return { all = supervisors.all(), unknown = args.unknown and supervisors.unknown() or nil }
end

function calls.jobs_of(args)
  view.add(supervisors.jobs_of(args.owner))
  return {}
end

function calls.take_over(args)
  local is_done, followed = supervisors.take_over(args.owner, args.renewed, args.transitions or {})
  work.flush()
  local said = { is_done = is_done }
  view.followed(said, followed)
  return said
end

local function with_claim(said, owner, request, is_writing, followed)
  local is_any, has_more = claim.stage(request.queues)
  local made = claim.run(owner, request, not (is_writing or request.skips_look or is_any))
  said.has_more = made.has_more or has_more
  said.due_in = not said.has_more and claim.due_in(request.queues) or nil
  said.token_in = claim.token_in(request)
  said.held, said.held_from = made.held_any and made.held or nil, made.held_from
  said.taken = #made.taken
  local parked = {}
  for _, job in ipairs(made.parked) do
    parked[job.name] = (parked[job.name] or 0) + 1
  end
  said.parked = next(parked) and parked or nil
  view.add(made.taken)
  follow.add(followed, made.followed)
end

-- Record, then follow up, then stage and claim: what an outcome gives back may be claimed by the same commit.
function calls.commit(args)
  local owner = args.owner
  supervisors.need(owner)
  finish.reports(owner, args.progress, args.outputs)
  local rejected, cancelled, followed = finish.all(owner, args.transitions or {})
  if call('EXISTS', P .. 'sweeping') == 1 then
    follow.add(followed, follow.sweep_any())
  end
  work.flush()
  local said = { has_more = false, taken = 0 }
  if args.claim then
    with_claim(said, owner, args.claim, args.is_writing, followed)
  end
  said.rejected = #rejected > 0 and rejected or nil
  said.cancelled = #cancelled > 0 and cancelled or nil
  view.followed(said, followed)
  return said
end

function calls.outstanding(args)
  local pending, running, retrying = 0, 0, 0
  for _, queue in ipairs(args.queues) do
    running = running + queues.size('running', queue)
    retrying = retrying + queues.size('retrying', queue)
    if not queues.is_paused(queue) then
      pending = pending + call('ZCARD', P .. 'due:' .. queue)
    end
  end
  local said = { pending = pending, running = running, retrying = retrying }
  if pending + running + retrying > 0 then
    return said
  end
  said.parked, said.paused, said.waiting, said.scheduled = {}, {}, 0, 0
  for _, queue in ipairs(args.queues) do
    lists.parked(queue, said.parked)
    said.waiting = said.waiting + (tonumber(work.hget('waiting', queue)) or 0)
    said.scheduled = said.scheduled + queues.size('scheduled', queue)
    local due = call('ZCARD', P .. 'due:' .. queue)
    if due > 0 then
      said.paused[#said.paused + 1] = { queue, due }
    end
  end
  return said
end

function calls.expire()
  local followed, count, has_more = upkeep.expire()
  work.flush()
  if call('EXISTS', P .. 'sweeping') == 1 then
    follow.add(followed, follow.sweep_any())
    work.flush()
    has_more = true
  end
  local said = { count = count, has_more = has_more }
  view.followed(said, followed)
  return said
end

function calls.rebase(args)
  local changed, skip = upkeep.rebase(args.queue, args.skip)
  work.flush()
  return { changed = changed, skip = skip or false }
end
