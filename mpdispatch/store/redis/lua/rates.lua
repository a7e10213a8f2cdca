-- Token buckets, as in policy.rate. The caller computes their limits as whole microseconds (its integers have no end):
-- for n jobs, `within[n]` is how far the bucket may be ahead of the clock and `costs[n]` by how much it moves.

-- How far ahead of the clock the bucket is; idle time saves nothing.
local function ahead(rate, bucket)
  if not bucket or bucket <= now.boot or bucket - now.boot > rate.foreign then
    return 0
  end
  return bucket - now.boot
end

-- Jobs that may start now, at most as many as the caller asks for.
function rates.available(rate, bucket)
  local distance, count = ahead(rate, bucket), 0
  while rate.within[count + 1] and distance <= rate.within[count + 1] do
    count = count + 1
  end
  return count
end

function rates.take(rate, bucket, count)
  return now.boot + ahead(rate, bucket) + rate.costs[count]
end

function rates.next_due(rate, bucket)
  return now.boot + math.max(0, ahead(rate, bucket) - rate.within[1])
end
