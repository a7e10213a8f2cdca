-- Queues: the hash `queues` has every queue that has or had jobs: '' , or '1' and '0' for one that was paused, or was
-- resumed or charged. Buckets are in `buckets`.

local known

function queues.begin()
  known = nil
end

local function all()
  if not known then
    known = {}
    local found = call('HGETALL', P .. 'queues')
    for at = 1, #found, 2 do
      known[found[at]] = found[at + 1]
    end
  end
  return known
end

function queues.names()
  local names = {}
  for name in pairs(all()) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

function queues.know(name)
  if not all()[name] then
    queues.set(name, '')
  end
end

function queues.set(name, value)
  all()[name] = value
  work.hset('queues', name, value)
end

-- nil: nobody has paused, resumed or charged it.
function queues.pause_of(name)
  local value = all()[name]
  if value == nil or value == '' then
    return nil
  end
  return value == '1'
end

function queues.is_paused(name)
  return all()[name] == '1'
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
