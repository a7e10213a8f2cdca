-- The reply of a call: what it says, packed, and after it the records of jobs as they are stored.

function view.begin()
  view.jobs = {}
end

-- Show these jobs, in this order.
function view.add(all)
  for _, job in ipairs(all) do
    view.jobs[#view.jobs + 1] = job
  end
end

-- What of a job is not in its record.
local function extra_of(job)
  local extra, is_any = {}, false
  if job.far_payload then
    extra.payload, is_any = jobs.text_of(job, 'payload'), true
  end
  if job.far_result then
    extra.result, is_any = jobs.text_of(job, 'result'), true
  end
  if places.is_due(job) and queues.is_paused(job.queue) then
    extra.is_paused, is_any = true, true
  end
  return is_any and extra
end

function view.reply(said)
  local reply, extras = { '' }, {}
  for place, job in ipairs(view.jobs) do
    reply[place + 1] = work.raw[job.id]
    local extra = extra_of(job)
    if extra then
      extras['#' .. place] = extra
    end
  end
  said.extras = next(extras) and extras or nil
  reply[1] = pack(said)
  return reply
end

-- Followed ends as the caller reads them: which jobs the store has ended and how; the records come after those shown before.
function view.followed(said, followed)
  said.ended, said.callbacks = nil, nil
  local kinds = {}
  for place, each in ipairs(followed.ended) do
    kinds[place] = { each.kind, each.expires or false }
    view.add({ jobs.get(each.id) })
  end
  view.add(followed.callbacks)
  said.ended = #kinds > 0 and kinds or nil
  said.callbacks = #followed.callbacks > 0 and #followed.callbacks or nil
  said.now = now.wall
end
