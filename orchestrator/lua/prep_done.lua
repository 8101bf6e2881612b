-- prep_done: the plan is made; run. ARGV: id token size part_size n validator pif queue stream data lease_ms sequential
-- sequential = 1: the destination takes parts one after the other, so there is one lane.
-- Arms the first round in the same step. Answers: armed epoch round lanes | complete epoch round | stop state
local id, token, lease_ms = ARGV[1], ARGV[2], num(ARGV[11])
local holder = owner(id, 'prep')
local state = get(id, 'state')[1]
if not holder or holder.token ~= token then return {'stop', state or 'gone'} end
drop_lease(id, 'prep')
if state ~= 'preparing' then return {'stop', state} end
local started = get(id, 'started')[1]
set(id, 'state', 'running', 'reason', '', 'size', ARGV[3], 'part_size', ARGV[4], 'n', ARGV[5], 'validator', ARGV[6], 'pif', ARGV[12] == '1' and 1 or ARGV[7],
  'q', ARGV[8], 'stream', ARGV[9], 'sequential', ARGV[12], 'wake_at', 0, 'prep_attempts', 0, 'prep_deaths', 0, 'committed', 0)
if not started then set(id, 'started', now) end
redis.call('HDEL', key('t', id), 'error')
event(id, 'probed', ARGV[10])
tell_started(id)
local f = get(id, 'done', 'n', 'epoch', 'round')
if num(f[2]) > 0 and num(f[1]) >= num(f[2]) then
  set(id, 'damaged', 1)
  look_at(id, now + 1000)
  return {'complete', num(f[3]), num(f[4])}
end
return arm(id, lease_ms)
