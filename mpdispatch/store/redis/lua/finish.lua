-- Recording outcomes: what one start of a job has come to.

-- The fence: only the start that runs now, in the name of its owner, may write to a job.
function finish.running(owner, id, starts)
  local job = jobs.get(id)
  if job and job.state == 'running' and job.owner == owner and job.starts == starts then
    return job
  end
end

-- End this start as its transition says, in this state. `history` is the attempt's text; without it, and with `began`, the
-- record itself says all there is to know of the attempt.
function finish.job(job, ended, state)
  local is_end = ENDED[state]
  places.leave(job)
  job.state, job.owner, job.asked = state, nil, nil
  job.done = is_end and ended.at or nil
  job.attempt = ended.attempt
  job.run = ended.run or job.run
  job.pid, job.took, job.cpu, job.rss = ended.pid, ended.took, ended.cpu, ended.rss
  jobs.keep_text(job, 'result', ended.result)
  job.error = ended.error or job.error
  if ended.history then
    work.later('RPUSH', 'attempts:' .. job.id, ended.history)
  end
  job.whole = ended.began and not ended.history or nil
  job.put = LATER[state] and ended.began and ended.at or nil
  if ended.began then
    job.last_began = ended.began
  end
  if ended.began or is_end then
    job.expires = nil -- from now on it may be late
  end
  job.began = job.last_began -- a start whose handler was not called leaves no trace
  if state == 'failed' then
    letters.add(job, ended.at)
  end
  places.enter(job)
  jobs.changed(job)
end

-- Gives the starts whose outcomes came too late, those whose jobs were cancelled instead of run again, and what followed.
function finish.all(owner, transitions)
  local rejected, cancelled, ended, wanted = {}, {}, {}, {}
  for place, each in ipairs(transitions) do
    wanted[place] = each.id
  end
  jobs.fetch(wanted)
  for _, each in ipairs(transitions) do
    local job = finish.running(owner, each.id, each.starts)
    if not job then
      rejected[#rejected + 1] = { each.id, each.starts }
    else
      -- A request to cancel must not be lost when the job would run again. A job that ended keeps its outcome.
      local state = each.state
      if job.asked and not ENDED[state] then
        state = 'cancelled'
        cancelled[#cancelled + 1] = { each.id, each.starts }
      end
      finish.job(job, each, state)
      if ENDED[state] then
        ended[#ended + 1] = job
      end
    end
  end
  return rejected, cancelled, follow.up(ended)
end

function finish.reports(owner, progress, outputs)
  for _, each in ipairs(progress or {}) do
    local job = finish.running(owner, each[1], each[2])
    if job then
      job.progress = each[3]
      jobs.changed(job)
    end
  end
  for _, each in ipairs(outputs or {}) do
    if finish.running(owner, each[1], each[2]) then
      work.hset('outputs:' .. each[1], each[2] .. ':' .. each[3], each[4])
    end
  end
end

-- Cancel a waiting job that nobody has started in time; what follows is the caller's.
function finish.expire(job)
  places.leave(job)
  local expires = job.expires
  job.state, job.done, job.expires, job.blocked, job.open, job.put = 'cancelled', now.wall, nil, nil, nil, nil
  job.pid, job.took, job.cpu, job.rss, job.whole, job.result = nil, nil, nil, nil, nil, nil
  job.began = job.last_began
  job.error = cjson.encode({ type = 'JobExpired', message = '', expires_us = text(expires) })
  -- As the text of any attempt; its error is that of the record.
  local starts, attempt = text(job.starts or 0), text((job.attempt or 0) + 1)
  work.later('RPUSH', 'attempts:' .. job.id,
    '[' .. starts .. ',' .. attempt .. ',"expired",' .. text(now.wall) .. ',' .. text(now.wall) .. ']')
  places.enter(job)
  jobs.changed(job)
  return { id = job.id, kind = 'expired', expires = expires }
end
