-- notice_claim: notices to send now; nobody else gets them for lease_ms. ARGV: lease_ms limit. Answers: name record name record ...
local lease_ms, limit, out = num(ARGV[1]), num(ARGV[2]), {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'outbox', '-inf', now, 'LIMIT', 0, limit)) do
  if redis.call('HEXISTS', key('notice', name), 'id') == 0 then
    redis.call('ZREM', P .. 'outbox', name) -- somebody removed it: there is nothing to send
  else
    redis.call('ZADD', P .. 'outbox', now + lease_ms, name)
    redis.call('HINCRBY', key('notice', name), 'tries', 1)
    table.insert(out, name)
    table.insert(out, redis.call('HGETALL', key('notice', name)))
  end
end
return out
