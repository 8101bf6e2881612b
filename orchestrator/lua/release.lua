-- release: give a part back without a receipt.
-- ARGV: id part token outcome delay_ms reason error lease_ms retention_ms
-- outcome: retry (counts) | restart (prepare again: the session is gone) | handed_back (does not count: drain, pause) | wait (state waiting with a reason) | fail (ends the transfer)
-- Answers: ok state live_leases | fenced state
local id, part, token, outcome, delay = ARGV[1], ARGV[2], ARGV[3], ARGV[4], num(ARGV[5])
local reason, err, lease_ms, retention = ARGV[6], ARGV[7], num(ARGV[8]), num(ARGV[9])
local f = get(id, 'state', 'solo', 'epoch')
local state = f[1] or 'gone'
local mine = owner(id, part)
if not mine or mine.token ~= token then return {'fenced', state} end
drop_lease(id, part)
if f[2] and f[2] ~= '' then set(id, 'solo', '') look_at(id, now) end
local live = redis.call('ZCARD', key('l', id))
if FINAL[state] then return {'ok', state, live} end
if part ~= '0' then redis.call('ZADD', key('b', id), now + delay, part) end
local _, deaths = attempts(id, part)
if outcome == 'retry' or outcome == 'restart' then
  redis.call('HSET', key('a', id), part, mine.attempt .. ':' .. deaths .. ':' .. mine.first)
elseif mine.attempt > 1 then
  redis.call('HSET', key('a', id), part, (mine.attempt - 1) .. ':' .. deaths .. ':' .. mine.first)
end
if err ~= '' then
  note_attempt(id, err)
end
push_ticket(id, mine.lane, now + lease_ms)
if ENDED[state] then expire_with_record(id) end
if ENDED[state] or state == 'paused' then return {'ok', state, live} end
if outcome == 'fail' then
  set(id, 'error', err)
  finish_transfer(id, 'failed', 'failed', err, retention)
  return {'ok', 'failed', live}
end
if outcome == 'wait' and state == 'running' then
  set(id, 'state', 'waiting', 'reason', reason, 'error', err, 'waiting_since', waiting_since(id), 'wait_in', part == '0' and 'prepare' or 'run', 'wake_at', now + delay)
  redis.call('DEL', key('k', id)) -- lanes stop at their next claim; the sweeper issues new ones when it wakes
  look_at(id, now) -- the sweeper books when the slot is to be freed
  tell_waiting(id, err, reason, delay)
  state = 'waiting'
else
  if outcome ~= 'handed_back' then tell_retrying(id, err, delay) end
  -- Queued or preparing since (paused and resumed): whoever prepares next looks at the session anyway.
  local at_work = state == 'running' or state == 'waiting'
  if at_work and (part == '0' or outcome == 'restart') then back_to_prepare(id, delay) return {'ok', 'preparing', live} end
end
look_at(id, now + delay)
return {'ok', state, live}
