-- sweep_start: who is due, and did Redis miss sweeps? ARGV: process lease_ms gap_ms lock_ms limit
-- The lock only saves work. Answers: busy | go grace_until now id ...
local process, lease_ms, gap_ms, lock_ms, limit = ARGV[1], num(ARGV[2]), num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local holder = redis.call('GET', P .. 'sweeper')
if holder and holder ~= process then return {'busy'} end
redis.call('SET', P .. 'sweeper', process, 'PX', lock_ms)
local f = redis.call('HMGET', P .. 'sweep', 'last', 'grace')
local grace = num(f[2])
if f[1] and now - num(f[1]) > gap_ms then grace = now + lease_ms end
redis.call('HSET', P .. 'sweep', 'last', now, 'grace', grace)
-- Ids of records that have expired. A failed one that is still there left something at the store.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'gone', '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', P .. 'gone', id)
  if get(id, 'state')[1] == 'failed' then look_at(id, now) else redis.call('ZREM', P .. 'all', id) end
end
-- Notices that nobody took: their bell was heard by a worker that died, or their queue was away.
if redis.call('ZRANGEBYSCORE', P .. 'outbox', '-inf', now, 'LIMIT', 0, 1)[1] then ring() end
local out = {'go', grace, now}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, limit)) do table.insert(out, id) end
return out
