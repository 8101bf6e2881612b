-- page: transfers by the time they were submitted, one page a call. Reads only.
-- ARGV: after_id ('' from the first one) after_ms newest_first look_at_most give_at_most wanted (JSON: field -> allowed values)
-- Answers: more(1|0) last_id last_ms, then id fields received_bytes of each that matches
local after, after_ms, newest, looks, gives = ARGV[1], ARGV[2], ARGV[3] == '1', num(ARGV[4]), num(ARGV[5])
local wanted, all = {}, P .. 'all'
for field, values in pairs(cjson.decode(ARGV[6])) do
  wanted[field] = {}
  for _, value in ipairs(values) do wanted[field][value] = true end
end

local start = 0
if after ~= '' then
  local rank = redis.call(newest and 'ZREVRANK' or 'ZRANK', all, after)
  if rank then start = rank + 1 -- else its record has expired meanwhile: go on with what is on the far side of it
  elseif newest then start = redis.call('ZCOUNT', all, '(' .. after_ms, '+inf')
  else start = redis.call('ZCOUNT', all, '-inf', '(' .. after_ms) end
end

local function matches(id)
  for field, allowed in pairs(wanted) do
    if not allowed[redis.call('HGET', key('t', id), field) or ''] then return false end
  end
  return true
end

local rows = redis.call(newest and 'ZREVRANGE' or 'ZRANGE', all, start, start + looks - 1, 'WITHSCORES')
local answer, given, more = {0, after, after_ms}, 0, #rows == 2 * looks
for at = 1, #rows, 2 do
  if given == gives then more = true break end
  local id = rows[at]
  answer[2], answer[3] = id, rows[at + 1]
  if matches(id) then
    local fields = redis.call('HGETALL', key('t', id))
    if #fields > 0 then
      local received = 0
      for _, bytes in ipairs(redis.call('HVALS', key('v', id))) do received = received + num(bytes) end
      table.insert(answer, id) table.insert(answer, fields) table.insert(answer, received)
      given = given + 1
    end
  end
end
answer[1] = more and 1 or 0
return answer
