-- complete_done: how the commit went. ARGV: id token outcome delay_ms reason data retention_ms
-- outcome: completed | failed | retry | wait | restart (parts were undone: prepare again) | handed_back (drain, or another worker can)
-- Answers: ok state | fenced state
local id, token, outcome, delay, reason = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4]), ARGV[5]
local data, retention = ARGV[6], num(ARGV[7])
local state = get(id, 'state')[1] or 'gone'
local mine = owner(id, 'fin')
if state ~= 'completing' or not mine or mine.token ~= token then return {'fenced', state} end
drop_lease(id, 'fin')
if outcome == 'completed' then
  set(id, 'result', data)
  finish_transfer(id, 'completed', 'completed', data, retention)
  return {'ok', 'completed'}
end
if outcome == 'restart' then set(id, 'committed', 0) end
local granted = grant_wish(id, data, retention)
if granted then return {'ok', granted} end
if outcome == 'failed' then
  set(id, 'error', data)
  finish_transfer(id, 'failed', 'failed', data, retention)
  return {'ok', 'failed'}
end
if outcome == 'restart' then
  tell_retrying(id, data, 0)
  back_to_prepare(id, 0)
  return {'ok', 'preparing'}
end
if data ~= '{}' then note_attempt(id, data) end
if outcome == 'handed_back' then redis.call('HINCRBY', key('t', id), 'fin_attempts', -1) end
set(id, 'state', outcome == 'wait' and 'waiting' or 'running', 'reason', reason, 'wake_at', now + delay, 'damaged', 1)
if outcome == 'wait' then
  set(id, 'waiting_since', waiting_since(id), 'wait_in', 'run', 'fin_attempts', 0)
  look_at(id, now) -- the sweeper books when the slot is to be freed
end
if outcome ~= 'handed_back' then
  set(id, 'error', data)
  if outcome == 'wait' then tell_waiting(id, data, reason, delay) else tell_retrying(id, data, delay) end
end
look_at(id, now + delay)
return {'ok', outcome == 'wait' and 'waiting' or 'running'}
