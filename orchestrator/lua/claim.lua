-- claim: the next part for a lane. ARGV: id epoch round lane seq nonce process lease_ms
-- The ticket makes a doubled message harmless; the nonce gives a retried call the same part.
-- Answers: part number token next_seq attempt first_ms session_no now | later ms | full | drained | stop why
local id, epoch, round, lane, seq = ARGV[1], num(ARGV[2]), num(ARGV[3]), ARGV[4], num(ARGV[5])
local nonce, process, lease_ms = ARGV[6], ARGV[7], num(ARGV[8])
local f = get(id, 'state', 'epoch', 'n', 'next', 'pif', 'solo', 'session_no', 'stream', 'done')
if f[1] ~= 'running' or num(f[2]) ~= epoch then return {'stop', f[1] or 'gone'} end
local k = ticket(id, lane)
if not k or k.round ~= round then return {'stop', 'round'} end
if k.seq == seq + 1 and k.nonce == nonce and k.part ~= '' then
  local mine = asked_before(id, k.part, nonce)
  if mine then
    return {'part', num(k.part), mine.token, k.seq, mine.attempt, mine.first, num(f[7]), now}
  end
end
if k.seq ~= seq then return {'stop', 'ticket'} end
local n, next = num(f[3]), num(f[4])
local live = redis.call('ZCARD', key('l', id))
if live >= num(f[5]) or (f[6] and f[6] ~= '') then redis.call('HDEL', key('k', id), lane) return {'full'} end
local part, wait
if f[8] == '1' then
  local ended = n > 0 and num(f[9]) >= n
  part = live == 0 and not ended and 0 or nil -- a stream is one lease, named 0
else
  part, wait = claimable(id, next, n)
end
if not part then
  if not wait then redis.call('HDEL', key('k', id), lane) return {'drained'} end
  look_at(id, now + wait)
  if wait > 1000 then
    redis.call('HDEL', key('k', id), lane)
  else
    k.deadline = now + wait + lease_ms
    put_ticket(id, lane, k)
  end
  return {'later', wait}
end
local tried, deaths, first = attempts(id, part)
if deaths >= 2 then
  if live > 0 then
    redis.call('HDEL', key('k', id), lane)
    look_at(id, now + 1000) -- all lanes end here; a ticket must be there when the last other part is done
    return {'full'}
  end
  set(id, 'solo', part)
end
if redis.call('ZREM', key('b', id), part) == 0 and part == next and part > 0 then set(id, 'next', next + 1) end
if first == 0 then first = now end
local token = new_token(id, nonce)
lease(id, part, token, process, tried + 1, lane, first, lease_ms)
k.seq, k.deadline, k.backoff, k.nonce, k.part = seq + 1, now + lease_ms, lease_ms, nonce, tostring(part)
put_ticket(id, lane, k)
return {'part', part, token, k.seq, tried + 1, first, num(f[7]), now}
