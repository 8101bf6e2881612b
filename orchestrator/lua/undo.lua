-- undo: reconciliation found parts gone. ARGV: id token member all part ...
-- all = 1: the whole session is gone, start at part 1; else only the parts named. Starts a new session number.
-- member says under which lease (prep or fin). Answers: ok | fenced state
local id, token, member, all = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local holder = owner(id, member)
if not holder or holder.token ~= token then return {'fenced', get(id, 'state')[1] or 'gone'} end
local f = get(id, 'size', 'part_size', 'next', 'sequential')
local function drop_others() -- a late finish of what is undone must not count
  for _, each in ipairs(redis.call('ZRANGE', key('l', id), 0, -1)) do
    if each ~= member then drop_lease(id, each) end
  end
end
redis.call('HINCRBY', key('t', id), 'session_no', 1)
if all then
  for bucket = 0, buckets(id) do redis.call('DEL', key('r', id) .. ':' .. bucket) end
  drop_others()
  redis.call('DEL', key('b', id))
  set(id, 'next', 1, 'done', 0, 'done_bytes', 0, 'session', '', 'solo', '')
  redis.call('HDEL', P .. 'sessions', id)
  return {'ok'}
end
local undone = {}
for at = 5, #ARGV do table.insert(undone, num(ARGV[at])) end
local sequential = f[4] == '1'
if sequential and undone[1] then
  -- Without a part none behind it can be there either: all of them again, in order, from the lowest.
  local lowest = undone[1]
  for _, part in ipairs(undone) do lowest = math.min(lowest, part) end
  undone = {}
  for part = lowest, num(f[3]) - 1 do table.insert(undone, part) end
  drop_others()
  redis.call('DEL', key('b', id))
  set(id, 'next', lowest)
end
for _, part in ipairs(undone) do
  local bucket, index = key('r', id) .. ':' .. math.floor((part - 1) / 100), (part - 1) % 100
  if redis.call('HDEL', bucket, index) == 1 then
    local size = math.min(num(f[2]), num(f[1]) - (part - 1) * num(f[2]))
    redis.call('HINCRBY', key('t', id), 'done', -1)
    redis.call('HINCRBY', key('t', id), 'done_bytes', -size)
    if not sequential then redis.call('ZADD', key('b', id), now, part) end
  end
end
return {'ok'}
