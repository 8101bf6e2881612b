-- aborted: how the clean-up went. ARGV: id token ok delay_ms error. The first try that ends decides when `cancelled` is announced:
-- after the clean-up, or at once when it failed (the sweeper tries again). Answers: ok | fenced state
local id, token, fine, delay, err = ARGV[1], ARGV[2], ARGV[3] == '1', num(ARGV[4]), ARGV[5]
local mine = owner(id, 'abort')
if not mine or mine.token ~= token then return {'fenced', get(id, 'state')[1] or 'gone'} end
drop_lease(id, 'abort')
if fine then
  set(id, 'cleanup', 'done')
  redis.call('HDEL', P .. 'sessions', id)
  redis.call('DEL', key('l', id), key('o', id), key('b', id), key('a', id), key('p', id))
else
  set(id, 'wake_at', now + delay)
  look_at(id, now + delay)
end
if redis.call('HSETNX', key('t', id), 'told', 1) == 1 then event(id, 'cancelled', err) end
return {'ok'}
