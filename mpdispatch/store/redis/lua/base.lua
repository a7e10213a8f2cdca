-- The parts of the library, so that each may name any other, and what all of them know of the call.
local work, ids, jobs, places, queues, batches, parents = {}, {}, {}, {}, {}, {}, {}
local follow, finish, claim, rates, letters, again, crons = {}, {}, {}, {}, {}, {}, {}
local supervisors, lists, prune, upkeep, calls, view = {}, {}, {}, {}, {}, {}

local call, pack, unpacked -- of the server: they are there only while a call runs

local P                     -- what the names of all keys begin with: `{prefix}:`
local now = { wall = 0, boot = 0 } -- microseconds: for people; for leases, rates and buckets

local AT_ONCE = 1000        -- arguments of one command, and rows of one step
local INLINE_BYTES = 1024   -- larger payloads and results have keys of their own
local ENDED = { completed = true, failed = true, cancelled = true }
local LATER = { scheduled = true, retrying = true }
local STATES = { 'scheduled', 'pending', 'running', 'retrying', 'completed', 'failed', 'cancelled' }

-- An error that the caller translates: its name, and what it is about.
local function refuse(name, about)
  error({ refusal = name, about = about or false }, 0)
end

-- A number as an argument or as part of a key: Lua itself would round it to 14 digits.
local function text(number)
  return string.format('%.0f', number)
end

local function by_number(one, other)
  return one < other
end
