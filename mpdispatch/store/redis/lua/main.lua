-- The one function of the library: it runs a call in a unit of work of its own, keeps the reply, and wakes who waits.

local KEEP_S = 300 -- longer than anybody repeats a call

-- The reply that this caller got for its last call, if it is this very one: it was lost on its way.
local function kept(caller, number)
  local found = call('GET', P .. 'reply:' .. caller)
  if found then
    local before, reply = unpack(unpacked(found))
    return before == number and reply or nil
  end
end

local function keep(caller, number, reply)
  call('SET', P .. 'reply:' .. caller, pack({ number, reply }), 'EX', KEEP_S)
end

local function tell()
  if work.tells_work then
    call('PUBLISH', P .. 'work', '')
  end
  if work.tells_ends then
    call('PUBLISH', P .. 'ends', '')
  end
end

local function set_clock(given)
  if given then
    now.wall, now.boot = given[1], given[2]
    return
  end
  local time = call('TIME')
  now.wall = time[1] * 1000000 + time[2]
  now.boot = now.wall
end

-- keys: the store, as `{prefix}`. arguments: the name of a call, its arguments packed, and for a call that changes the store
-- the caller's own name and the number of the call.
local function main(keys, arguments)
  call, pack, unpacked = redis.call, cmsgpack.pack, cmsgpack.unpack
  local name, args, caller, number = arguments[1], unpacked(arguments[2]), arguments[3], tonumber(arguments[4])
  P = keys[1] .. ':'
  local reply = caller and kept(caller, number)
  if reply then
    return reply
  end
  set_clock(args.now)
  work.begin()
  queues.begin()
  view.begin()
  local is_fine, said = pcall(calls[name], args)
  if not is_fine then
    if type(said) == 'table' and said.refusal then
      return { pack({ refusal = said.refusal, about = said.about }) }
    end
    return redis.error_reply('ERR ' .. name .. ': ' .. (type(said) == 'table' and said.err or tostring(said)))
  end
  reply = view.reply(said)
  if caller and work.has_written then
    keep(caller, number, reply)
    tell()
  end
  return reply
end
