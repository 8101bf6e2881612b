-- abort_claim: may the clean-up of a cancelled transfer run? ARGV: id nonce process lease_ms
-- Answers: go token attempt record | wait (parts are still in flight, or the last try was just now) | busy | over state
local id, nonce, process, lease_ms = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4])
local f = get(id, 'state', 'cleanup', 'wake_at')
if f[1] ~= 'cancelled' or f[2] ~= 'pending' then return {'over', f[1] or 'gone'} end
local mine = asked_before(id, 'abort', nonce)
if mine then return {'go', mine.token, mine.attempt, redis.call('HGETALL', key('t', id))} end
if num(f[3]) > now then return {'wait'} end
if lease_is_live(id, 'abort') then return {'busy'} end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', key('l', id), now, '+inf')) do
  if member ~= 'abort' then look_at(id, now + 1000) return {'wait'} end
end
local token = new_token(id, nonce)
local attempt = redis.call('HINCRBY', key('t', id), 'abort_attempts', 1)
lease(id, 'abort', token, process, attempt, 0, now, lease_ms)
expire_with_record(id)
return {'go', token, attempt, redis.call('HGETALL', key('t', id))}
