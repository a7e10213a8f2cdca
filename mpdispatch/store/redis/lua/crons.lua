-- Cron entries: `crons` has their ids by name, `cron_records` the records by id. Of an entry's slots `slots:<id>` has all that fired,
-- by slot, `fired:<id>` when and as which job, `firing:<id>` those whose jobs have not ended as far as decisions have seen,
-- `skips:<id>` what was skipped. `cron_of` has the entry and the slot of a job.

function crons.get(id)
  local packed = work.hget('cron_records', id)
  return packed and unpacked(packed)
end

function crons.named(name)
  local id = work.hget('crons', name)
  return id and crons.get(id) or refuse('cron_not_found', name)
end

local function save(cron)
  work.hset('cron_records', cron.id, pack(cron))
end

local function changed(cron)
  cron.revision = cron.revision + 1
  save(cron)
end

-- All of them, by name.
function crons.all()
  local names, found = call('HKEYS', P .. 'crons'), {}
  table.sort(names)
  for place, name in ipairs(names) do
    found[place] = crons.named(name)
  end
  return found
end

-- ---------------------------------------------------------------- declaring

local function add(new, origin, app)
  local cron = {
    id = ids.next('cron'), name = new.name, spec = new.spec, slots = new.slots, job = new.job, origin = origin, app = app,
    revision = 1, is_enabled = true, is_orphan = false, created = now.wall, enabled = new.decided, decided = new.decided,
    next_slot = new.next_slot,
  }
  work.hset('crons', cron.name, cron.id)
  save(cron)
  return cron
end

function crons.add(all)
  local made, names = {}, {}
  for _, new in ipairs(all) do
    local id = work.hget('crons', new.name)
    if id or names[new.name] then
      refuse('cron_exists', { new.name, names[new.name] or crons.get(id).origin })
    end
    names[new.name] = new.origin
  end
  for place, new in ipairs(all) do
    made[place] = add(new, new.origin, new.app)
  end
  return made
end

local function begin_anew(cron, decided, next_slot)
  cron.enabled, cron.decided, cron.late_since = decided, decided, nil
  cron.next_slot = cron.is_enabled and not cron.is_orphan and next_slot or nil
end

-- It keeps its place if it keeps its slots: a slot that was missed is caught up, whatever else is new.
local function declare_again(cron, new, app)
  local keeps_place = not cron.is_orphan and cron.slots == new.slots
  cron.spec, cron.slots, cron.job, cron.app, cron.is_orphan = new.spec, new.slots, new.job, app, false
  if not keeps_place then
    begin_anew(cron, new.decided, new.next_slot)
  end
  changed(cron)
end

function crons.sync(origin, app, declared)
  local done, names, there = { added = {}, changed = {}, orphaned = {}, taken = {} }, {}, {}
  for _, cron in ipairs(crons.all()) do
    there[cron.name] = cron
  end
  for _, new in ipairs(declared) do
    local cron = there[new.name]
    names[new.name] = true
    if not cron then
      there[new.name] = add(new, origin, app)
      table.insert(done.added, new.name)
    elseif cron.origin ~= origin then
      table.insert(done.taken, new.name)
    elseif cron.is_orphan or cron.app ~= app or cron.spec ~= new.spec then
      declare_again(cron, new, app)
      table.insert(done.changed, new.name)
    end
  end
  for name, cron in pairs(there) do
    if cron.origin == origin and cron.app == app and not cron.is_orphan and not names[name] then
      cron.is_orphan, cron.next_slot, cron.late_since = true, nil, nil
      changed(cron)
      table.insert(done.orphaned, name)
    end
  end
  table.sort(done.orphaned)
  return done
end

function crons.set_enabled(cron, is_enabled, decided, next_slot)
  if is_enabled and not cron.is_enabled then
    cron.is_enabled = true
    begin_anew(cron, decided, next_slot)
    changed(cron)
  elseif cron.is_enabled and not is_enabled then
    cron.is_enabled, cron.next_slot, cron.late_since = false, nil, nil
    changed(cron)
  end
end

-- At once for all who look. Its jobs stay, and are as any other then.
function crons.delete(cron)
  local fired = call('HGETALL', P .. 'fired:' .. cron.id)
  for at = 1, #fired, 2 do
    work.hdel('cron_of', string.match(fired[at + 1], ':(.*)$'))
  end
  work.hdel('crons', cron.name)
  work.hdel('cron_records', cron.id)
  for _, kind in ipairs({ 'fired:', 'slots:', 'firing:', 'skips:' }) do
    work.later('UNLINK', kind .. cron.id)
  end
end

-- ---------------------------------------------------------------- firing

local function fired(cron, slot)
  local value = work.hget('fired:' .. cron.id, text(slot))
  if value then
    local at, id = string.match(value, '^(.*):(.*)$')
    return tonumber(at), tonumber(id)
  end
end

local function keep_fired(cron, slot, at, id)
  work.hset('fired:' .. cron.id, text(slot), text(at) .. ':' .. id)
  work.zadd('slots:' .. cron.id, slot, text(slot))
  work.zadd('firing:' .. cron.id, slot, text(slot))
  work.hset('cron_of', id, cron.id .. ':' .. text(slot))
end

-- Fire these slots, without those that have fired before, whatever the clock did meanwhile.
function crons.fire(cron, slots)
  local made = {}
  for _, firing in ipairs(slots) do
    local slot, new = firing[1], {}
    if not fired(cron, slot) then
      for field, value in pairs(cron.job) do
        new[field] = value
      end
      new.run, new.slot = firing[2], slot
      local job = jobs.insert(new)
      keep_fired(cron, slot, now.wall, job.id)
      cron.last_slot, cron.last_fired, cron.last_job = slot, now.wall, job.id
      made[#made + 1] = job
    end
  end
  if #made > 0 then
    changed(cron)
  end
  return made
end

local function skip_member(skipped)
  return string.format('%020.0f', skipped.at) .. ':' .. text(skipped.last) .. ':' .. skipped.reason
end

local function skip_of(member, first)
  local at, last, reason = string.match(member, '^(.-):(.-):(.*)$')
  return { first = tonumber(first), last = tonumber(last), reason = reason, at = tonumber(at), member = member }
end

-- Skipped slots join those skipped last if the reason is the same and no other slot lies between.
local function skip(cron, skipped)
  work.flush()
  local key = 'skips:' .. cron.id
  local newest = call('ZREVRANGE', P .. key, 0, 0, 'WITHSCORES')
  local before = newest[1] and skip_of(newest[1], newest[2])
  local last_fired = tonumber(call('ZREVRANGE', P .. 'slots:' .. cron.id, 0, 0)[1])
  if before and before.reason == skipped.reason and before.last < skipped.first and before.at >= cron.enabled
    and not (last_fired and last_fired > before.last) then
    work.zrem(key, before.member)
    skipped.first = before.first
  end
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. key, text(skipped.first), text(skipped.first))) do
    if skip_of(member, 0).at == skipped.at then
      work.zrem(key, member)
    end
  end
  work.zadd(key, skipped.first, skip_member(skipped))
end

-- Do all that was decided; nil: the entry has changed since.
function crons.decide(decision)
  local cron = crons.get(decision.id)
  if not cron or cron.revision ~= decision.revision then
    return nil
  end
  for _, slot in ipairs(decision.closes or {}) do
    work.zrem('firing:' .. cron.id, text(slot))
  end
  for _, id in ipairs(decision.cancels or {}) do
    local job = jobs.get(id)
    if job and not ENDED[job.state] then
      jobs.cancel(job)
    end
  end
  for _, skipped in ipairs(decision.skips or {}) do
    skip(cron, skipped)
  end
  local made = crons.fire(cron, decision.fires or {})
  cron.decided, cron.next_slot = decision.decided, decision.next_slot
  cron.boot = decision.boot or cron.boot
  cron.last_success = decision.last_success or cron.last_success
  cron.late_since = decision.late_since
  changed(cron)
  return made
end

-- ---------------------------------------------------------------- their jobs

local function place_of(id)
  local value = work.hget('cron_of', id)
  if value then
    local cron_id, slot = string.match(value, '^(.-):(.*)$')
    return crons.get(tonumber(cron_id)), tonumber(slot)
  end
end

-- The new job takes the place of the old one: the slot is open again.
function crons.retried(old_id, new_id)
  local cron, slot = place_of(old_id)
  if not cron then
    return
  end
  local at = fired(cron, slot)
  work.hdel('cron_of', old_id)
  keep_fired(cron, slot, at, new_id)
  if cron.last_job == old_id then
    cron.last_job = new_id
  end
  changed(cron)
end

-- Whether a decision has yet to see how this job ended.
function crons.keeps(id)
  local cron, slot = place_of(id)
  return cron ~= nil and cron.is_enabled and not cron.is_orphan
    and call('ZSCORE', P .. 'firing:' .. cron.id, text(slot)) ~= false
end

-- ---------------------------------------------------------------- reading

-- An entry with its open firings, oldest slot first. A job that is gone counts as cancelled.
function crons.shown(cron)
  local open = {}
  for place, slot in ipairs(call('ZRANGE', P .. 'firing:' .. cron.id, 0, AT_ONCE - 1)) do
    local _, id = fired(cron, tonumber(slot))
    local job = jobs.get(id)
    open[place] = { tonumber(slot), id, job and job.state or 'cancelled', job and job.done or false }
  end
  cron.job, cron.slots = nil, nil
  cron.open = #open > 0 and open or nil
  return cron
end

function crons.history(cron, limit)
  local slots, skips = {}, {}
  for place, slot in ipairs(call('ZREVRANGE', P .. 'slots:' .. cron.id, 0, limit - 1)) do
    slots[place] = { tonumber(slot), fired(cron, tonumber(slot)) }
  end
  local found = call('ZREVRANGE', P .. 'skips:' .. cron.id, 0, limit - 1, 'WITHSCORES')
  for at = 1, #found, 2 do
    local skipped = skip_of(found[at], found[at + 1])
    skips[#skips + 1] = { skipped.first, skipped.last, skipped.reason, skipped.at }
  end
  return slots, skips
end

-- Slots and skips that are older than this, but for the last KEPT of each, those open and those after the last decision.
-- One step for one entry.
local KEPT = 100

function crons.prune(cron, before)
  local count = 0
  local until_slot = math.min(cron.decided, before - 1)
  for _, slot in ipairs(call('ZRANGE', P .. 'slots:' .. cron.id, 0, -KEPT - 1)) do
    local at, id = fired(cron, tonumber(slot))
    if tonumber(slot) > until_slot or count >= AT_ONCE then
      break
    end
    if at < before and not call('ZSCORE', P .. 'firing:' .. cron.id, slot) then
      work.zrem('slots:' .. cron.id, slot)
      work.hdel('fired:' .. cron.id, slot)
      work.hdel('cron_of', id)
      count = count + 1
    end
  end
  local found = call('ZRANGE', P .. 'skips:' .. cron.id, 0, -KEPT - 1, 'WITHSCORES')
  for at = 1, #found, 2 do
    local skipped = skip_of(found[at], found[at + 1])
    if skipped.first > until_slot or count >= AT_ONCE then
      break
    end
    if skipped.at < before and skipped.last <= cron.decided then
      work.zrem('skips:' .. cron.id, skipped.member)
      count = count + 1
    end
  end
  return count
end
