-- Queues: the hash `queues` has every queue that has or had jobs: '' , or '1' and '0' for one that was paused, or was
-- resumed or charged. Buckets are in `buckets`.

local known -- by name, as far as this call has looked; false: there is none

function queues.begin()
  known = {}
end

local function value_of(name)
  if known[name] == nil then
    known[name] = work.hget('queues', name)
  end
  return known[name]
end

function queues.names()
  local names = call('HKEYS', P .. 'queues')
  table.sort(names)
  return names
end

function queues.know(name)
  if not value_of(name) then
    queues.set(name, '')
  end
end

function queues.set(name, value)
  known[name] = value
  work.hset('queues', name, value)
end

-- nil: nobody has paused, resumed or charged it.
function queues.pause_of(name)
  local value = value_of(name)
  if not value or value == '' then
    return nil
  end
  return value == '1'
end

function queues.is_paused(name)
  return value_of(name) == '1'
end

function queues.charge(name, bucket)
  work.hset('buckets', name, bucket)
  if queues.pause_of(name) == nil then
    queues.set(name, '0')
  end
end

function queues.bucket(name)
  return tonumber(work.hget('buckets', name))
end

function queues.size(state, name)
  return call('ZCARD', P .. places.list(state, name))
end
