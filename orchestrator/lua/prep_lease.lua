-- prep_lease: the right to prepare. ARGV: id epoch nonce process lease_ms. Answers: go token record... | busy | later ms | stop state
local id, epoch, nonce, process, lease_ms = ARGV[1], num(ARGV[2]), ARGV[3], ARGV[4], num(ARGV[5])
local f = get(id, 'state', 'epoch', 'wake_at', 'prep_first', 'prep_attempts')
if f[1] ~= 'preparing' or num(f[2]) ~= epoch then return {'stop', f[1] or 'gone'} end
if num(f[3]) > now then return {'later', num(f[3]) - now} end
local mine = asked_before(id, 'prep', nonce)
if not mine then
  if lease_is_live(id, 'prep') then return {'busy'} end
  local attempt = redis.call('HINCRBY', key('t', id), 'prep_attempts', 1)
  mine = {token = new_token(id, nonce)}
  lease(id, 'prep', mine.token, process, attempt, 0, f[4] or now, lease_ms)
end
return {'go', mine.token, now, redis.call('HGETALL', key('t', id))}
