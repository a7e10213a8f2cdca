-- For programs in any language:
--
--     FCALL mpdispatch_enqueue 1 '{prefix}' NAME PAYLOAD [OPTION VALUE]…
--
-- enqueues a job of this name and gives its id; of a job whose idempotency key is in use, that of the older one. PAYLOAD is a
-- JSON object: argument → value. It is stored as it is given.

local VERSION = '5' -- of what is stored
local MOST = 9007199254740991

local function number(option, value)
  local found = tonumber(value)
  if not found or found ~= math.floor(found) or math.abs(found) > MOST then
    error(option .. ' must be a whole number, not ' .. value, 0)
  end
  return found
end

local function not_negative(option, value)
  local found = number(option, value)
  if found < 0 then
    error(option .. ' must be 0 or more, not ' .. value, 0)
  end
  return found
end

local function not_empty(option, value)
  if value == '' then
    error(option .. ' must not be empty', 0)
  end
  return value
end

local OPTIONS = {
  queue = { 'queue', not_empty }, priority = { 'priority', number }, max_retries = { 'retries', not_negative },
  delay_us = { 'delay', not_negative }, run_at_us = { 'run', number }, timeout_us = { 'timeout', not_negative },
  expires_us = { 'expires_in', not_negative }, idempotency_key = { 'key', not_empty }, batch_id = { 'batch', not_negative },
}

local function new_job(arguments)
  local name, payload = arguments[1], arguments[2]
  if not payload or #arguments % 2 == 1 then
    error('give the name of a job, its payload, and pairs of an option and a value', 0)
  end
  local is_json, decoded = pcall(cjson.decode, payload)
  if not is_json or type(decoded) ~= 'table' or not string.find(payload, '^%s*{') then
    error('the payload must be a JSON object, not ' .. string.sub(payload, 1, 60), 0)
  end
  local new = { name = not_empty('the name', name), payload = payload, queue = 'default' }
  for at = 3, #arguments, 2 do
    local option = OPTIONS[arguments[at]]
    if not option then
      local names = {}
      for known in pairs(OPTIONS) do
        names[#names + 1] = known
      end
      table.sort(names)
      error('there is no option ' .. arguments[at] .. '; there are ' .. table.concat(names, ', '), 0)
    end
    new[option[1]] = option[2](arguments[at], arguments[at + 1])
  end
  return new
end

local function enqueue(arguments)
  local new = new_job(arguments)
  local version = call('HGET', P .. 'meta', 'version')
  if version ~= VERSION then
    error('there is no store of version ' .. VERSION .. ' here: run `mpdispatch migrate`', 0)
  end
  set_clock(nil)
  work.begin()
  queues.begin()
  places.begin()
  local job = jobs.enqueue(new)
  work.flush()
  tell()
  return job.id
end

local function mpdispatch_enqueue(keys, arguments)
  call, pack, unpacked = redis.call, cmsgpack.pack, cmsgpack.unpack
  if not keys[1] or not string.find(keys[1], '^{.+}$') then
    return redis.error_reply('ERR the key must be the prefix of the store in braces, such as {mpdispatch}')
  end
  P = keys[1] .. ':'
  local is_fine, found = pcall(enqueue, arguments)
  if is_fine then
    return found
  end
  local is_refusal = type(found) == 'table' and found.refusal
  local why = is_refusal or (type(found) == 'table' and found.err) or tostring(found)
  return redis.error_reply('ERR mpdispatch_enqueue: ' .. why)
end
