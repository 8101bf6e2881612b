-- stream_part: record a part of a stream; its one lease (part 0) goes on. ARGV: id token part receipt size_bytes part_count(0: not the last)
-- The last call names the count and the total, and ends the lease. Answers: ok|again done n damaged state | fenced state | dead state live_leases
local id, token, part, receipt, size, count = ARGV[1], ARGV[2], num(ARGV[3]), ARGV[4], num(ARGV[5]), num(ARGV[6])
local state = get(id, 'state')[1] or 'gone'
local mine = owner(id, '0')
if FINAL[state] or state == 'gone' then
  if mine and mine.token == token then drop_lease(id, '0') end
  return {'dead', state, redis.call('ZCARD', key('l', id))}
end
local bucket, index = key('r', id) .. ':' .. math.floor((part - 1) / 100), (part - 1) % 100
if not mine or mine.token ~= token then
  local stored = redis.call('HGET', bucket, index)
  if stored and string.sub(stored, 1, 8) == string.sub(receipt, 1, 8) then
    local f = get(id, 'done', 'n')
    return {'again', num(f[1]), num(f[2]), 1, state}
  end
  return {'fenced', state}
end
if redis.call('HSET', bucket, index, receipt) == 1 then
  redis.call('HINCRBY', key('t', id), 'done', 1)
  redis.call('HINCRBY', key('t', id), 'done_bytes', size)
end
local f = get(id, 'done', 'done_bytes', 'progress_at', 'progress_bytes', 'size')
if count > 0 then
  set(id, 'n', count, 'size', f[2], 'next', count + 1)
  redis.call('HDEL', key('a', id), '0')
  drop_lease(id, '0')
  look_at(id, now + 1000)
end
if ENDED[state] then expire_with_record(id, bucket)
elseif count > 0 or progress_is_due(num(f[2]), f[3], f[4], f[5]) then tell_progress(id, num(f[2]), num(f[1])) end
return {'ok', num(f[1]), count, 1, state}
