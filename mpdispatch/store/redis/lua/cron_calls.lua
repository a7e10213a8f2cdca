-- The calls about cron entries.

local function shown(all)
  for place, cron in ipairs(all) do
    all[place] = crons.shown(cron)
  end
  return all
end

function calls.crons()
  return { crons = shown(crons.all()) }
end

function calls.cron(args)
  return { crons = shown({ crons.named(args.name) }) }
end

function calls.cron_add(args)
  local made = crons.add(args.crons)
  work.flush()
  work.tells_work = true
  return { crons = shown(made) }
end

function calls.cron_sync(args)
  local done = crons.sync(args.origin, args.app, args.crons)
  work.flush()
  work.tells_work = true
  return done
end

function calls.cron_enable(args)
  crons.set_enabled(crons.named(args.name), args.is_enabled, args.decided, args.next_slot)
  work.flush()
  work.tells_work = true
  return { crons = shown({ crons.named(args.name) }) }
end

function calls.cron_delete(args)
  crons.delete(crons.named(args.name))
  work.flush()
  return {}
end

function calls.cron_fire(args)
  local made = crons.fire(crons.named(args.name), args.fires)
  work.flush()
  view.add(made)
  return {}
end

function calls.cron_decide(args)
  local made = crons.decide(args)
  work.flush()
  view.add(made or {})
  return { is_done = made ~= nil }
end

function calls.cron_history(args)
  local fired, skipped = crons.history(crons.named(args.name), args.limit)
  return { fired = fired, skipped = skipped }
end
