-- submit: write a transfer, or say which one is already there.
-- ARGV: id dest idem_key spec direction priority not_before_ms paused queue_capacity control_queue schema idem_ttl_ms tenant reference keep_partial
-- Answers: ok id | same id (idempotency key) | dup id (live transfer to this destination) | full
local id, dest, idem, spec, direction, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local not_before, paused, capacity = num(ARGV[7]), ARGV[8] == '1', num(ARGV[9])
if redis.call('EXISTS', key('t', id)) == 1 then return {'ok', id} end -- the same call, sent again after a lost reply
if idem ~= '' then
  local first = redis.call('GET', P .. 'idem:' .. idem)
  if first then return {'same', first} end
end
local other = redis.call('HGET', P .. 'dest', dest)
if other then return {'dup', other} end
if not paused and redis.call('ZCARD', P .. 'queue:' .. direction) >= capacity then return {'full'} end
take_destination(id, dest)
if idem ~= '' then redis.call('SET', P .. 'idem:' .. idem, id, 'PX', ARGV[12]) end
local state = paused and 'paused' or 'queued'
set(id, 'schema', ARGV[11], 'state', state, 'reason', not_before > now and 'not_before' or '', 'epoch', 1, 'round', 0, 'spec', spec,
  'direction', direction, 'priority', priority, 'dest', dest, 'n', 0, 'done', 0, 'done_bytes', 0, 'next', 1, 'tok', 0,
  'session', '', 'session_no', 0, 'created', now, 'not_before', not_before, 'wake_at', 0, 'qc', ARGV[10],
  'tenant', ARGV[13], 'reference', ARGV[14], 'keep', ARGV[15])
redis.call('PERSIST', key('p', id)) -- a presigned plan, written just before
redis.call('ZADD', P .. 'all', now, id)
if not paused then
  if not_before > now then look_at(id, not_before) else enqueue(id, direction, priority) end
end
event(id, state, '{}')
return {'ok', id}
