-- snapshot: what is queued or at work, of the transfers that hold a destination, one page a call. Reads only.
-- ARGV: cursor (0 to begin) count
-- Answers: cursor (0: that was the last page), then id state direction destination of each; one may come twice
local page = redis.call('HSCAN', P .. 'dest', ARGV[1], 'COUNT', ARGV[2])
local answer, rows = {page[1]}, page[2]
for at = 2, #rows, 2 do
  local f = get(rows[at], 'state', 'direction', 'dest')
  if f[1] and f[1] ~= 'paused' then
    for _, value in ipairs({rows[at], f[1], f[2], f[3]}) do table.insert(answer, value) end
  end
end
return answer
