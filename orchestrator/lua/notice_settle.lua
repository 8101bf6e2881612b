-- notice_settle: how sending a notice went. ARGV: name taken delay_ms. Taken: it is gone; else it is due after the delay.
-- Needs no token: a notice that was sent twice is taken twice, and one that is gone stays gone. Answers: ok
local name, taken, delay = ARGV[1], ARGV[2] == '1', num(ARGV[3])
if taken then
  redis.call('ZREM', P .. 'outbox', name)
  redis.call('DEL', key('notice', name))
else
  redis.call('ZADD', P .. 'outbox', 'XX', now + delay, name)
end
return 'ok'
