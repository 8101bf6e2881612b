-- steer: what a user asks for. ARGV: id action(pause|resume|cancel|retry) retention_ms nonce
-- The nonce of the last thing done is kept: the same call, sent again after a lost reply, is no second one.
-- Answers: ok state | wish state (applied if the commit under way fails) | no state | gone | dup id
local id, action, retention, nonce = ARGV[1], ARGV[2], num(ARGV[3]), ARGV[4]
local f = get(id, 'state', 'epoch', 'direction', 'priority', 'dest', 'session', 'not_before', 'wish', 'steered', 'intent_at')
local state = f[1]
if not state then return {'gone'} end
if f[9] == nonce then return {'ok', state} end
local function done(new) set(id, 'steered', nonce) return {'ok', new} end
local function wish(what) -- a wish to cancel stands, as a cancel does
  if f[8] ~= 'cancel' then set(id, 'wish', what) end
  return {'wish', state}
end
local live = {queued = true, preparing = true, running = true, waiting = true}

if action == 'pause' then
  if state == 'paused' then return {'ok', state} end
  if state == 'completing' then return wish('pause') end
  if not live[state] then return {'no', state} end
  local epoch = redis.call('HINCRBY', key('t', id), 'epoch', 1)
  set(id, 'state', 'paused', 'reason', '', 'wake_at', 0)
  leave_admission(id, f[3])
  drop_lease(id, 'prep')
  redis.call('DEL', key('k', id))
  shout(id, 'paused', epoch)
  event(id, 'paused', so_far(id))
  return done('paused')
end

if action == 'resume' then
  if state ~= 'paused' then
    if state ~= 'completing' or f[8] ~= 'pause' then return {'no', state} end
    set(id, 'wish', '', 'steered', nonce)
    return {'wish', state}
  end
  redis.call('HINCRBY', key('t', id), 'epoch', 1)
  restart_clocks(id)
  set(id, 'state', 'queued', 'reason', '', 'wake_at', 0)
  if num(f[7]) > now then
    set(id, 'reason', 'not_before')
    look_at(id, num(f[7]))
  else
    enqueue(id, f[3], f[4])
  end
  event(id, 'resumed', so_far(id))
  return done('queued')
end

if action == 'retry' then
  if state ~= 'failed' then return {'no', state} end
  for _, dest in ipairs(redis.call('SMEMBERS', key('d', id))) do
    local other = redis.call('HGET', P .. 'dest', dest)
    if other and other ~= id then return {'dup', other} end
  end
  for _, dest in ipairs(redis.call('SMEMBERS', key('d', id))) do redis.call('HSET', P .. 'dest', dest, id) end
  redis.call('HINCRBY', key('t', id), 'epoch', 1)
  set(id, 'state', 'queued', 'reason', '', 'wake_at', 0, 'solo', '', 'fin_attempts', 0,
    'prep_deaths', 0, 'fin_deaths', 0)
  redis.call('HDEL', key('t', id), 'error', 'ended', 'started')
  redis.call('DEL', key('a', id))
  for _, part in ipairs(redis.call('ZRANGE', key('b', id), 0, -1)) do redis.call('ZADD', key('b', id), now, part) end
  persist_transfer(id)
  enqueue(id, f[3], f[4])
  event(id, 'queued', so_far(id))
  return done('queued')
end

-- cancel: also of a failed or paused transfer, to drop what it kept.
if FINAL[state] then return {'no', state} end
if state == 'completing' then return wish('cancel') end
-- Between the intent and the record of the session an upload may be open that only its opener knows, or nobody any more.
-- While its lease lives the opener may still name it, and the clean-up waits for that as it does for parts.
local unnamed = f[6] == '' and num(f[10]) > 0
if not (unnamed and is_dirty(id)) then drop_lease(id, 'prep') end
if cancel_transfer(id, '{}', retention) then
  look_at(id, now + 1000) -- if parts are in flight, the last of them starts the clean-up earlier
end
return done('cancelled')
