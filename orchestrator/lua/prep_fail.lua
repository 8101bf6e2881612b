-- prep_fail: the preparation did not succeed. ARGV: id token outcome delay_ms reason error retention_ms
-- outcome: retry (after delay) | handed_back (does not count: drain, or another worker can) | wait (state waiting with a reason) | fail | done (nothing to do: skipped; error holds the result).
-- Cancelled meanwhile, it lets go of its lease, for which the clean-up waits.
-- Answers: ok state | fenced state
local id, token, outcome, delay, reason, err, retention = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4]), ARGV[5], ARGV[6], num(ARGV[7])
local holder = owner(id, 'prep')
local state = get(id, 'state')[1]
if not holder or holder.token ~= token then return {'fenced', state or 'gone'} end
drop_lease(id, 'prep')
if state == 'cancelled' then return {'ok', state} end
if state ~= 'preparing' then return {'fenced', state} end
if outcome == 'fail' then
  set(id, 'error', err)
  finish_transfer(id, 'failed', 'failed', err, retention)
  return {'ok', 'failed'}
end
if outcome == 'done' then
  set(id, 'result', err)
  finish_transfer(id, 'completed', 'completed', err, retention)
  return {'ok', 'completed'}
end
set(id, 'wake_at', now + delay, 'error', err)
if err ~= '{}' then note_attempt(id, err) end
if outcome == 'wait' then
  set(id, 'state', 'waiting', 'reason', reason, 'waiting_since', waiting_since(id), 'wait_in', 'prepare', 'prep_attempts', 0)
  look_at(id, now) -- the sweeper books when the slot is to be freed
  tell_waiting(id, err, reason, delay)
elseif outcome == 'handed_back' then
  redis.call('HINCRBY', key('t', id), 'prep_attempts', -1)
else
  tell_retrying(id, err, delay)
end
look_at(id, now + delay)
return {'ok', outcome}
