-- complete_claim: what is left to do before the object can be made visible? ARGV: id round nonce process lease_ms
-- Answers: go token attempt first_ms record | armed epoch round lanes | wait | busy | over state
local id, round, nonce, process, lease_ms = ARGV[1], num(ARGV[2]), ARGV[3], ARGV[4], num(ARGV[5])
local f = get(id, 'state', 'round', 'n', 'done', 'next', 'fin_first', 'wake_at', 'stream')
local state = f[1] or 'gone'
if state ~= 'running' and state ~= 'completing' and state ~= 'waiting' then return {'over', state} end
local n, done = num(f[3]), num(f[4])
if n == 0 or done < n then
  -- Arming while all that is left backs off would spin: the sweeper arms at wake_at. Only the current round may arm.
  if state ~= 'running' or num(f[2]) ~= round or redis.call('ZCARD', key('l', id)) > 0 then return {'wait'} end
  if f[8] == '1' or not claimable(id, num(f[5]), n) then return {'wait'} end
  return arm(id, lease_ms)
end
local mine = asked_before(id, 'fin', nonce)
if mine then return {'go', mine.token, mine.attempt, mine.first, now, redis.call('HGETALL', key('t', id))} end
if lease_is_live(id, 'fin') then return {'busy'} end
if num(f[7]) > now then return {'wait'} end
local token = new_token(id, nonce)
local attempt = redis.call('HINCRBY', key('t', id), 'fin_attempts', 1)
if attempt == 1 then set(id, 'fin_first', now) f[6] = now end
set(id, 'state', 'completing', 'reason', '')
redis.call('DEL', key('k', id))
lease(id, 'fin', token, process, attempt, 0, f[6] or now, lease_ms)
return {'go', token, attempt, num(f[6]), now, redis.call('HGETALL', key('t', id))}
