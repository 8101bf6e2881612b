-- complete_done: how the commit went. ARGV: id token outcome delay_ms reason data retention_ms
-- outcome: completed | failed | retry | wait | restart (parts were undone: prepare again) | handed_back
-- Answers: ok state | fenced state
local id, token, outcome, delay, reason = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4]), ARGV[5]
local data, retention = ARGV[6], num(ARGV[7])
local f = get(id, 'state', 'wish', 'epoch', 'direction', 'session', 'keep')
local state = f[1] or 'gone'
local mine = owner(id, 'fin')
if state ~= 'completing' or not mine or mine.token ~= token then return {'fenced', state} end
drop_lease(id, 'fin')
if outcome == 'completed' then
  set(id, 'result', data)
  finish_transfer(id, 'completed', 'completed', data, retention)
  return {'ok', 'completed'}
end
if f[2] == 'cancel' then
  redis.call('HINCRBY', key('t', id), 'epoch', 1)
  local dirty = f[5] ~= '' and f[6] ~= '1'
  set(id, 'cleanup', dirty and 'pending' or 'done')
  finish_transfer(id, 'cancelled', dirty and '' or 'cancelled', data, retention)
  if dirty then look_at(id, now) end
  return {'ok', 'cancelled'}
end
if f[2] == 'pause' then
  local epoch = redis.call('HINCRBY', key('t', id), 'epoch', 1)
  set(id, 'state', 'paused', 'reason', '', 'wish', '', 'wake_at', 0)
  leave_admission(id, f[4])
  event(id, 'paused', '{}')
  shout(id, 'paused', epoch)
  return {'ok', 'paused'}
end
if outcome == 'failed' then
  set(id, 'error', data)
  finish_transfer(id, 'failed', 'failed', data, retention)
  return {'ok', 'failed'}
end
if outcome == 'restart' then
  event(id, 'retrying', data)
  back_to_prepare(id, 0)
  return {'ok', 'preparing'}
end
if outcome == 'handed_back' then redis.call('HINCRBY', key('t', id), 'fin_attempts', -1) end
set(id, 'state', outcome == 'wait' and 'waiting' or 'running', 'reason', reason, 'wake_at', now + delay, 'damaged', 1)
if outcome == 'wait' then set(id, 'waiting_since', now, 'wait_in', 'run', 'fin_attempts', 0) end
if outcome ~= 'handed_back' then
  set(id, 'error', data)
  event(id, outcome == 'wait' and 'waiting' or 'retrying', data)
end
look_at(id, now + delay)
return {'ok', outcome == 'wait' and 'waiting' or 'running'}
