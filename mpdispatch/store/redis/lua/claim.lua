-- Staging and claiming: the twin of policy.admission, and the choice of jobs by its plan.
--
--     scheduled, retrying ──stage──▶ pending ──take──▶ running
--                                      │  ▲
--                                   refused known again
--                                      ▼  │
--                                     parked                    due, but expired ──▶ cancelled

-- Jobs that have become due, at most AT_ONCE. Gives whether there were any, and whether there may be more.
function claim.stage(names)
  local left = AT_ONCE
  for _, queue in ipairs(names) do
    local found = left > 0 and call('ZRANGEBYSCORE', P .. 'later:' .. queue, '-inf', text(now.wall), 'LIMIT', 0, left) or {}
    for place, id in ipairs(found) do
      found[place] = tonumber(id)
    end
    jobs.fetch(found)
    for _, id in ipairs(found) do
      local job = jobs.get(id)
      places.leave(job)
      job.state, job.put = 'pending', nil
      places.enter(job)
      jobs.changed(job)
    end
    left = left - #found
  end
  work.flush()
  return left < AT_ONCE, left <= 0
end

-- How many jobs a claim may take, and of which queue; and when the first queue that has no token gets one.
function claim.plan(request, slots)
  local plan, sum = { left = {}, names = {} }, 0
  for _, queue in ipairs(request.queues) do
    local free, limit = slots, request.limits and request.limits[queue]
    if not queues.is_paused(queue) then
      if limit and limit.most then
        free = math.min(free, limit.most - queues.size('running', queue))
      end
      if limit and limit.rate then
        local bucket = queues.bucket(queue)
        local tokens = rates.available(limit.rate, bucket)
        if tokens == 0 then
          local at = rates.next_due(limit.rate, bucket)
          plan.token = math.min(plan.token or at, at)
        end
        free = math.min(free, tokens)
      end
      if free > 0 then
        plan.left[queue] = free
        plan.names[#plan.names + 1] = queue
        sum = sum + free
      end
    end
  end
  plan.total = math.min(math.max(slots, 0), sum)
  plan.ready = request.is_rated and request.ready and math.max(0, math.min(request.ready, slots)) or nil
  return plan
end

local function is_rated(request, queue)
  local limit = request.limits and request.limits[queue]
  return limit and limit.rate and true or false
end

local function knows(request, name)
  return request.names == nil or request.names[name]
end

-- One ordered set of rows, read a portion at a time. `most`: it gives no more rows than that.
local function source(key, queue, most, portion)
  return { key = P .. key, queue = queue, most = most, portion = portion, read = 0, rows = {}, at = 0, is_parked = false }
end

local function fetch_rows(rows)
  local wanted = {}
  for at = 1, #rows, 2 do
    local _, id = places.of_member(rows[at])
    wanted[#wanted + 1] = id
  end
  jobs.fetch(wanted)
end

local function head(each)
  if each.at >= #each.rows / 2 and not each.is_over then
    local last = each.read + each.portion - 1
    if each.most then
      last = math.min(last, each.most - 1)
    end
    each.rows = last >= each.read and call('ZRANGE', each.key, text(each.read), text(last), 'WITHSCORES') or {}
    each.is_over = #each.rows < 2 * each.portion
    each.read, each.at = each.read + #each.rows / 2, 0
    if each.is_alone then
      fetch_rows(each.rows)
    end
  end
  return each.rows[2 * each.at + 1], tonumber(each.rows[2 * each.at + 2])
end

-- The source whose next row is the first of all in the order of claiming.
local function first_of(sources)
  local best, best_member, best_score
  for _, each in ipairs(sources) do
    local member, score = head(each)
    if member and (not best or score < best_score or (score == best_score and member < best_member)) then
      best, best_member, best_score = each, member, score
    end
  end
  if best then
    best.at = best.at + 1
  end
  return best, best_member, best_score
end

local function parked_names(request, queue)
  local names, list = {}, {}
  for _, field in ipairs(call('HKEYS', P .. 'refused:' .. queue)) do
    local name = string.match(field, '^(.*)\n')
    if not names[name] and knows(request, name) then
      names[name] = true
      list[#list + 1] = name
    end
  end
  return list
end

-- Where to claim from. Of a queue with a limit, and of each parked name, no more rows are read than may be taken, because
-- there may be a million: so what stands behind a refused job there waits for the next commit.
local function sources_of(request, plan)
  local sources, is_cut = {}, plan.ready ~= nil
  for _, queue in ipairs(plan.names) do
    local most = math.min(plan.left[queue], plan.total)
    local is_whole = plan.left[queue] >= plan.total and not is_rated(request, queue)
    is_cut = is_cut or not is_whole
    sources[#sources + 1] = source('due:' .. queue, queue, not is_whole and most or nil, plan.total)
    for _, name in ipairs(parked_names(request, queue)) do
      local parked = source('parked:' .. #queue .. ':' .. queue .. ':' .. name, queue, most, plan.total)
      parked.is_parked = true
      sources[#sources + 1] = parked
      is_cut = true
    end
  end
  if #sources == 1 then
    sources[1].is_alone = true -- all its rows are looked at: their records are read at once
  end
  return sources, is_cut
end

local function take(job, owner)
  places.leave(job)
  job.state, job.owner, job.began = 'running', owner, now.wall
  job.starts = (job.starts or 0) + 1
  -- At claim and not at the end: a job that kills its supervisor or the host spends its attempts too.
  job.attempt = (job.attempt or 0) + 1
  job.blocked, job.progress, job.pid, job.took, job.cpu, job.rss = nil, nil, nil, nil, nil, nil
  places.enter(job)
  jobs.changed(job)
end

local function park(job, reason)
  places.leave(job)
  job.blocked = reason
  places.enter(job)
  jobs.changed(job)
end

local function hold_back(made, queue, member, score)
  local run, id = places.of_member(member)
  made.held[queue] = (made.held[queue] or 0) + 1
  made.held_any = true
  made.held_from = made.held_from or { score, run, id }
end

-- Without a worker that is ready nothing of a rated queue begins. If nothing else is there, nothing is written.
local function only_held_back(request, plan, sources, made)
  for _, each in ipairs(sources) do
    if head(each) and not is_rated(request, each.queue) then
      return false
    end
  end
  for _, each in ipairs(sources) do
    local member, score = head(each)
    if member and not each.is_parked then
      hold_back(made, each.queue, member, score)
    end
  end
  return true
end

local function choose(request, plan, sources, made)
  local left, taken, left_out = plan.left, made.taken, 0
  while #taken < plan.total and left_out < AT_ONCE do
    local from, member, score = first_of(sources)
    if not from then
      return
    end
    local queue, _, id = from.queue, places.of_member(member)
    local job = jobs.get(id)
    if job.expires and job.expires <= now.wall then
      made.expired[#made.expired + 1] = job
      left_out = left_out + 1
    elseif not knows(request, job.name) then
      made.parked[#made.parked + 1] = job
      left_out = left_out + 1
    elseif left[queue] > 0 then
      left[queue] = left[queue] - 1
      -- A token is charged at claim. So none is for a job that would then wait for a worker, or a rate would hold over
      -- claims and not over starts.
      if plan.ready and #taken >= plan.ready and is_rated(request, queue) then
        hold_back(made, queue, member, score)
      else
        taken[#taken + 1] = job
      end
    end
  end
  made.is_stopped = left_out >= AT_ONCE
end

local function charge(request, taken)
  local counts = {}
  for _, job in ipairs(taken) do
    counts[job.queue] = (counts[job.queue] or 0) + 1
  end
  for queue, count in pairs(counts) do
    if is_rated(request, queue) then
      queues.charge(queue, rates.take(request.limits[queue].rate, queues.bucket(queue), count))
    end
  end
end

local function new_claim()
  return { taken = {}, parked = {}, expired = {}, held = {}, followed = follow.new(), has_more = false }
end

-- Take due jobs by the plan, in due order. `may_look_first`: this call has changed nothing yet.
function claim.run(owner, request, may_look_first)
  local plan, made = claim.plan(request, request.slots), new_claim()
  local sources, is_cut = sources_of(request, plan)
  if may_look_first and plan.ready == 0 and only_held_back(request, plan, sources, made) then
    return made
  end
  choose(request, plan, sources, made)
  for _, job in ipairs(made.parked) do
    park(job, request.refusal)
  end
  for place, job in ipairs(made.expired) do
    made.followed.ended[place] = finish.expire(job)
  end
  follow.add(made.followed, follow.up(made.expired))
  for _, job in ipairs(made.taken) do
    take(job, owner)
  end
  if request.is_rated then
    charge(request, made.taken)
  end
  local is_full = #made.taken == plan.total
  local is_any_left_out = #made.parked + #made.expired > 0
  -- With `ready` told, what the limits leave is known to be all: the next token or end of a job gives more.
  local is_all = #made.taken > 0 and is_full and (plan.ready == nil or plan.total == request.slots)
  made.has_more = is_all or (is_any_left_out and (is_cut or is_full or made.is_stopped)) or made.followed.has_due
  work.flush()
  return made
end

-- Time until the first scheduled or retrying job of these queues is due.
function claim.due_in(names)
  local first
  for _, queue in ipairs(names) do
    local at = tonumber(call('ZRANGE', P .. 'later:' .. queue, 0, 0, 'WITHSCORES')[2])
    if at and (not first or at < first) then
      first = at
    end
  end
  return first and first - now.wall
end

-- Time until a rate-limited queue gets its next token, if a due job waits for one.
function claim.token_in(request)
  if not request.is_rated then
    return nil
  end
  local plan = claim.plan(request, math.max(request.slots, 1))
  for _, queue in ipairs(request.queues) do
    local waits = is_rated(request, queue) and not plan.left[queue] and not queues.is_paused(queue)
    if plan.token and waits and call('ZCARD', P .. 'due:' .. queue) > 0 then
      return plan.token - now.boot
    end
  end
end
