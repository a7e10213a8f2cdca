-- The unit of work of one call: all that it changes is kept here and written at once by `flush`. So what is refused
-- half way leaves nothing behind, and a hundred jobs cost one command for each index and not one each.

-- What a call has read and changed: records by id, and by key the members of sorted sets and the fields of hashes.
function work.begin()
  work.jobs, work.batches, work.raw = {}, {}, {}
  work.changed_jobs, work.changed_batches = {}, {}
  work.index, work.hashes, work.commands, work.numbers = {}, {}, {}, {}
  work.has_written, work.tells_ends, work.tells_work = false, false, false
end

local function of_key(all, key)
  local found = all[key]
  if not found then
    found = {}
    all[key] = found
  end
  return found
end

-- Put a member into a sorted set; false as its score takes it out.
function work.place(key, member, score)
  of_key(work.index, key)[member] = score
end

function work.zadd(key, score, member)
  work.place(key, member, score)
end

function work.zrem(key, member)
  work.place(key, member, false)
end

function work.hget(key, field)
  local changed = work.hashes[key]
  if changed and changed[field] ~= nil then
    return changed[field]
  end
  return call('HGET', P .. key, field)
end

function work.hset(key, field, value)
  of_key(work.hashes, key)[field] = value
end

function work.hdel(key, field)
  of_key(work.hashes, key)[field] = false
end

-- Counts that are gone at zero.
function work.count(key, field, change)
  local count = (tonumber(work.hget(key, field)) or 0) + change
  work.hset(key, field, count > 0 and count)
end

-- Any other command, with its key in second place.
function work.later(command, key, ...)
  local commands = work.commands
  commands[#commands + 1] = { command, P .. key, ... }
end

local function in_portions(command, key, arguments)
  for at = 1, #arguments, AT_ONCE do
    call(command, key, unpack(arguments, at, math.min(at + AT_ONCE - 1, #arguments)))
  end
end

local function write_index()
  for key, members in pairs(work.index) do
    local added, removed = {}, {}
    for member, score in pairs(members) do
      if score then
        added[#added + 1] = score
        added[#added + 1] = member
      else
        removed[#removed + 1] = member
      end
    end
    in_portions('ZREM', P .. key, removed)
    in_portions('ZADD', P .. key, added)
  end
end

local function write_hashes()
  for key, fields in pairs(work.hashes) do
    local set, gone = {}, {}
    for field, value in pairs(fields) do
      if value then
        set[#set + 1] = field
        set[#set + 1] = value
      else
        gone[#gone + 1] = field
      end
    end
    in_portions('HDEL', P .. key, gone)
    in_portions('HSET', P .. key, set)
  end
end

local function write_records()
  local set = {}
  for id in pairs(work.changed_jobs) do
    local packed = pack(work.jobs[id])
    work.raw[id] = packed
    set[#set + 1] = P .. 'job:' .. id
    set[#set + 1] = packed
  end
  for id in pairs(work.changed_batches) do
    set[#set + 1] = P .. 'batch:' .. id
    set[#set + 1] = pack(work.batches[id])
  end
  for at = 1, #set, AT_ONCE do
    call('MSET', unpack(set, at, math.min(at + AT_ONCE - 1, #set)))
  end
end

-- Write all of it. What is read afterwards sees it.
function work.flush()
  for name, number in pairs(work.numbers) do
    work.hset('ids', name, number)
  end
  local is_any = next(work.index) or next(work.hashes) or next(work.commands)
    or next(work.changed_jobs) or next(work.changed_batches)
  if not is_any then
    return
  end
  work.has_written = true
  write_records()
  write_index()
  write_hashes()
  for _, command in ipairs(work.commands) do
    call(unpack(command))
  end
  work.changed_jobs, work.changed_batches = {}, {}
  work.index, work.hashes, work.commands, work.numbers = {}, {}, {}, {}
end

-- The next id of a kind, not given to anything yet.
function ids.coming(kind)
  return (work.numbers[kind] or tonumber(work.hget('ids', kind)) or 0) + 1
end

-- The next id of a kind; none is given twice.
function ids.next(kind)
  work.numbers[kind] = ids.coming(kind)
  return work.numbers[kind]
end
