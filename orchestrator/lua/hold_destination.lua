-- hold_destination: a second identity of the destination, known only after looking at the disk. ARGV: id token dest
-- Answers: ok | dup id | fenced state
local id, token, dest = ARGV[1], ARGV[2], ARGV[3]
local holder = owner(id, 'prep')
local state = get(id, 'state')[1]
if state ~= 'preparing' or not holder or holder.token ~= token then return {'fenced', state or 'gone'} end
local other = take_destination(id, dest)
if other then return {'dup', other} end
return {'ok'}
