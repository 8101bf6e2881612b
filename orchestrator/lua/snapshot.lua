-- snapshot: every transfer that holds a destination, at one point in time. Reads only. No ARGV.
-- Answers: state direction destination of each
local answer, seen = {}, {}
for _, id in ipairs(redis.call('HVALS', P .. 'dest')) do
  if not seen[id] then -- one that holds two identities of its destination is one transfer
    seen[id] = true
    for _, value in ipairs(get(id, 'state', 'direction', 'dest')) do table.insert(answer, value or '') end
  end
end
return answer
