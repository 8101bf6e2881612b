-- notice_settle: how sending a notice went. ARGV: name taken delay_ms keep_ms. Taken: it is gone; else it is due after the
-- delay, unless it is older than keep_ms: then nobody is going to take it, and it is gone too.
-- Needs no token: a notice that was sent twice is taken twice, and one that is gone stays gone. Answers: taken | later | given_up
local name, taken, delay, keep = ARGV[1], ARGV[2] == '1', num(ARGV[3]), num(ARGV[4])
local booked = redis.call('HGET', key('notice', name), 'at')
local old = booked and now - num(booked) > keep
if taken or old then
  redis.call('ZREM', P .. 'outbox', name)
  redis.call('DEL', key('notice', name))
  return taken and 'taken' or 'given_up'
end
redis.call('ZADD', P .. 'outbox', 'XX', now + delay, name)
return 'later'
