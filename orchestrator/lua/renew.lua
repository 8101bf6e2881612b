-- renew: keep a lease, report received bytes, hear the state. ARGV: id member token process lease_ms received
-- Answers: ok state epoch wish | lost state epoch
local id, member, token, process, lease_ms, received = ARGV[1], ARGV[2], ARGV[3], ARGV[4], num(ARGV[5]), ARGV[6]
local f = get(id, 'state', 'epoch', 'wish')
local mine = owner(id, member)
if not mine or mine.token ~= token then return {'lost', f[1] or 'gone', num(f[2])} end
redis.call('ZADD', key('l', id), now + lease_ms, member)
redis.call('ZADD', P .. 'procs', now, process)
if received ~= '' and not ENDED[f[1]] then redis.call('HSET', key('v', id), member, received) end
push_ticket(id, mine.lane, now + lease_ms)
return {'ok', f[1], num(f[2]), f[3] or ''}
