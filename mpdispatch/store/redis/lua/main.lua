-- The one function of the library: it runs a call in a unit of work of its own, keeps the reply, and wakes who waits.

local KEEP_S = 300 -- longer than anybody repeats a call

-- The reply that this caller got for its last call, if it is this very one: it was lost on its way.
local function kept(caller, number)
  local found = call('GET', P .. 'reply:' .. caller)
  if found then
    local before, reply = unpack(unpacked(found))
    if before > number then
      refuse('call_is_past', number) -- the caller has gone on since: this copy of the call comes too late
    end
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

local function carry_out(name, args, caller, number)
  local reply = caller and kept(caller, number)
  if reply then
    return reply
  end
  if caller and call('EXISTS', P .. 'meta') == 0 then
    refuse('store_missing') -- somebody has deleted it since it was opened
  end
  set_clock(args.now)
  work.begin()
  queues.begin()
  places.begin()
  view.begin()
  reply = view.reply(calls[name](args))
  if caller and work.has_written then
    keep(caller, number, reply)
    tell()
  end
  return reply
end

-- keys: the store, as `{prefix}`. arguments: the name of a call, its arguments packed, and for a call that changes the store
-- the caller's own name and the number of the call.
local function main(keys, arguments)
  call, pack, unpacked = redis.call, cmsgpack.pack, cmsgpack.unpack
  P = keys[1] .. ':'
  local is_fine, reply = pcall(carry_out, arguments[1], unpacked(arguments[2]), arguments[3], tonumber(arguments[4]))
  if is_fine then
    return reply
  elseif type(reply) == 'table' and reply.refusal then
    return { pack({ refusal = reply.refusal, about = reply.about }) }
  end
  local text = type(reply) == 'table' and reply.err or tostring(reply)
  return redis.error_reply('ERR ' .. arguments[1] .. ': ' .. text)
end
