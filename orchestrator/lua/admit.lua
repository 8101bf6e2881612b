-- admit: give free slots to the first of each queue. ARGV: lease_ms, then direction, slots, ... ; answers id epoch control_queue, ...
local lease_ms, admitted = num(ARGV[1]), {}
for at = 2, #ARGV, 2 do
  local direction, slots = ARGV[at], num(ARGV[at + 1])
  while redis.call('SCARD', P .. 'slots:' .. direction) < slots do
    local id = redis.call('ZPOPMIN', P .. 'queue:' .. direction)[1]
    if not id then break end
    local f = get(id, 'state', 'epoch', 'qc')
    if f[1] == 'queued' then
      redis.call('SADD', P .. 'slots:' .. direction, id)
      set(id, 'state', 'preparing', 'reason', '', 'wake_at', 0, 'waiting_since', 0, 'prep_attempts', 0, 'prep_first', now)
      look_at(id, now + lease_ms) -- if the prepare message is lost, the sweeper sends another
      table.insert(admitted, id) table.insert(admitted, num(f[2])) table.insert(admitted, f[3])
    end
  end
end
return admitted
