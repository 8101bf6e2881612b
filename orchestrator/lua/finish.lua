-- finish: record the receipt of a stored part. ARGV: id part token receipt size_bytes lease_ms retention_ms
-- The receipt begins with the 8 bytes of the token's nonce, so a repeated call is known by its own receipt.
-- The current token counts whatever the epoch (a part stored during a pause counts), unless the transfer is over.
-- Answers: ok|again done n damaged state | fenced state | dead state live_leases
local id, part, token, receipt, size, lease_ms = ARGV[1], num(ARGV[2]), ARGV[3], ARGV[4], num(ARGV[5]), num(ARGV[6])
local f = get(id, 'state', 'n', 'done', 'damaged', 'solo', 'progress_at', 'waiting_since', 'progress_bytes', 'size')
local state = f[1] or 'gone'
local bucket, index = key('r', id) .. ':' .. math.floor((part - 1) / 100), (part - 1) % 100
local mine = owner(id, part)
if FINAL[state] or state == 'gone' then
  if mine and mine.token == token then drop_lease(id, part) end
  return {'dead', state, redis.call('ZCARD', key('l', id))}
end
if not mine or mine.token ~= token then
  local stored = redis.call('HGET', bucket, index)
  if stored and string.sub(stored, 1, 8) == string.sub(receipt, 1, 8) then
    return {'again', num(f[3]), num(f[2]), num(f[4]), state}
  end
  return {'fenced', state}
end
drop_lease(id, part)
redis.call('HDEL', key('a', id), part)
redis.call('HSET', bucket, index, receipt)
local done = redis.call('HINCRBY', key('t', id), 'done', 1)
local bytes = redis.call('HINCRBY', key('t', id), 'done_bytes', size)
if f[5] and f[5] ~= '' then set(id, 'solo', '') look_at(id, now) end
push_ticket(id, mine.lane, now + lease_ms)
if num(f[7]) > 0 then set(id, 'waiting_since', state == 'waiting' and now or 0) end
local n = num(f[2])
if ENDED[state] then
  expire_with_record(id, bucket) -- `failed` stays the last event; `retry` finds the part done
elseif done == n or progress_is_due(bytes, f[6], f[8], f[9]) then
  tell_progress(id, bytes, done)
end
if done == n then look_at(id, now + 1000) end -- should the body of the chord be lost
return {'ok', done, n, num(f[4]), state}
