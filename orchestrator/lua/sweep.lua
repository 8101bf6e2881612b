-- sweep: one look at one transfer; every repair is a move that is checked again here. ARGV: id lease_ms max_deaths grace_until retention_ms wait_frees_ms
-- Answers a flat list of messages to send: kind, then its arguments:
--   prepare epoch queue | part epoch round lane seq queue | complete round queue | abort queue | admit
local id, lease_ms, max_deaths, grace, retention, wait_frees = ARGV[1], num(ARGV[2]), num(ARGV[3]), num(ARGV[4]), num(ARGV[5]), num(ARGV[6])
local f = get(id, 'state', 'epoch', 'round', 'n', 'done', 'next', 'pif', 'wake_at', 'q', 'qc', 'direction', 'priority',
  'waiting_since', 'cleanup', 'not_before', 'solo', 'stream', 'wait_in', 'ended')
local state, epoch, round, n, done = f[1], num(f[2]), num(f[3]), num(f[4]), num(f[5])
local wake, out, next_look = num(f[8]), {}, nil
local function send(...) for _, each in ipairs({...}) do table.insert(out, each) end end
local function look(at) if at and (not next_look or at < next_look) then next_look = at end end
redis.call('ZREM', P .. 'due', id)
if not state or state == 'completed' then return out end
if state == 'failed' then
  -- Nobody tried it again for as long as it is kept: what it left at the store goes with it.
  local kept_until = num(f[19]) + retention
  if is_dirty(id) and now < kept_until then look_at(id, kept_until) end
  if now >= kept_until and is_dirty(id) then
    cancel_transfer(id, '{}', retention)
    send('abort', f[10])
    look_at(id, now + lease_ms)
  end
  return out
end

-- Redis was away: nobody could renew, so every lease counts as live for one lease more.
local quiet = now < grace
if quiet then look(grace) end

-- Leases that ran out: the part goes back; a death counts only if the holder's process is gone too.
local expired = {}
if not quiet then expired = redis.call('ZRANGEBYSCORE', key('l', id), '-inf', now) end
for _, member in ipairs(expired) do
  local mine = owner(id, member)
  drop_lease(id, member)
  if mine and tonumber(member) and not ENDED[state] then
    local seen = num(redis.call('ZSCORE', P .. 'procs', mine.process))
    local _, deaths = attempts(id, member)
    if now - seen > lease_ms then deaths = deaths + 1 end
    redis.call('HSET', key('a', id), member, mine.attempt .. ':' .. deaths .. ':' .. mine.first)
    if member ~= '0' then redis.call('ZADD', key('b', id), now, member) end
    if f[16] and f[16] ~= '' then set(id, 'solo', '') end
    local note = '{"code":"lease_lost","part":' .. member .. ',"attempt":' .. mine.attempt .. ',"deaths":' .. deaths .. ',"at":' .. now
      .. ',"process":"' .. mine.process .. '"}'
    note_attempt(id, note)
    if deaths >= max_deaths and state ~= 'paused' then
      local err = '{"code":"part_poisonous","number":-1,"message":"part ' .. member .. ' outlived ' .. deaths .. ' worker processes","part":' .. member .. '}'
      set(id, 'error', err)
      finish_transfer(id, 'failed', 'failed', err, retention)
      send('admit')
      return out
    end
    tell_retrying(id, note, 0)
    if member == '0' and state == 'running' then
      back_to_prepare(id, 0)
      return out
    end
  elseif mine and (member == 'prep' or member == 'fin') and not ENDED[state] then
    local seen = num(redis.call('ZSCORE', P .. 'procs', mine.process))
    local deaths = now - seen > lease_ms and redis.call('HINCRBY', key('t', id), member .. '_deaths', 1) or 0
    if deaths >= max_deaths then
      local step = member == 'prep' and 'preparation' or 'commit'
      local err = '{"code":"' .. step .. '_poisonous","number":-1,"message":"the ' .. step .. ' outlived ' .. deaths .. ' worker processes"}'
      set(id, 'error', err)
      if not grant_wish(id, err, retention) then finish_transfer(id, 'failed', 'failed', err, retention) end
      send('admit')
      return out
    end
  end
end
if state == 'waiting' and wake <= now then restart_clocks(id) end
local first_lease = redis.call('ZRANGE', key('l', id), 0, 0, 'WITHSCORES')
if first_lease[2] then look(math.max(num(first_lease[2]), now + 1)) end

if state == 'cancelled' then
  if f[14] == 'pending' and wake > now then
    look(wake)
  elseif f[14] == 'pending' then
    if not lease_is_live(id, 'abort') then send('abort', f[10]) end
    look(now + lease_ms)
  end
elseif state == 'queued' then
  if num(f[15]) > now then
    look(num(f[15]))
  else
    set(id, 'reason', '')
    enqueue(id, f[11], f[12])
    send('admit')
  end
elseif state == 'preparing' then
  if wake > now then
    look(wake)
  else
    if not lease_is_live(id, 'prep') then send('prepare', epoch, f[10]) end
    look(now + lease_ms)
  end
elseif state == 'completing' and done < n and not lease_is_live(id, 'fin') then
  -- The worker that undid parts died before it could say so.
  if not grant_wish(id, '{}', retention) then back_to_prepare(id, 0) end
elseif state == 'completing' then
  if not lease_is_live(id, 'fin') then
    if quiet then look(grace) else send('complete', round, f[10]) look(now + lease_ms) end
  end
elseif state == 'waiting' and wake > now then
  look(wake)
  if now - num(f[13]) >= wait_frees then redis.call('SREM', P .. 'slots:' .. f[11], id) send('admit')
  else look(num(f[13]) + wait_frees) end
elseif state == 'waiting' and redis.call('SISMEMBER', P .. 'slots:' .. f[11], id) == 0 then
  -- Its slot was given away while it waited: back to the queue, and prepare looks at the source again.
  epoch = redis.call('HINCRBY', key('t', id), 'epoch', 1)
  set(id, 'state', 'queued', 'reason', '', 'wake_at', 0)
  enqueue(id, f[11], f[12])
  event(id, 'queued', so_far(id))
  send('admit')
elseif state == 'waiting' and f[18] == 'prepare' then
  set(id, 'state', 'preparing', 'reason', '', 'prep_attempts', 0, 'prep_first', now)
  send('prepare', epoch, f[10])
  look(now + lease_ms)
elseif state == 'running' or state == 'waiting' then
  if state == 'waiting' then set(id, 'state', 'running', 'reason', '', 'wake_at', 0, 'damaged', 1) tell_started(id) end
  if n > 0 and done >= n then
    if wake > now then look(wake) else send('complete', round, f[10]) look(now + math.max(lease_ms / 4, 1000)) end
  else
    local lanes, used = 0, {}
    local all = redis.call('HGETALL', key('k', id))
    for at = 1, #all, 2 do
      local lane, k = all[at], ticket(id, all[at])
      lanes = lanes + 1
      used[num(lane)] = true
      if k.deadline <= now and not quiet then
        -- The message, or the worker that held it, is lost: the same ticket again; whichever copy comes first wins.
        k.backoff = math.min(k.backoff * 2, 8 * lease_ms)
        k.deadline = now + k.backoff
        put_ticket(id, lane, k)
        set(id, 'damaged', 1)
        send('part', epoch, k.round, num(lane), k.seq, f[9])
      end
      look(math.max(k.deadline, now + 1))
    end
    local part, wait = nil, nil
    local live = redis.call('ZCARD', key('l', id))
    local streaming = f[17] == '1'
    if streaming then
      if live == 0 then part = 0 end
    else
      part, wait = claimable(id, num(f[6]), n)
    end
    local _, deaths = attempts(id, part or '')
    if live > 0 and (deaths >= 2 or (f[16] and f[16] ~= '')) then
      look(now + 1000) -- a part runs alone, or is about to: a new lane would only hear `full`
    elseif part then
      local free = num(f[7]) - math.max(lanes, live)
      -- A busy lane is no help to a part that can be claimed now: it may be busy for hours.
      local idle = math.max(0, lanes - live)
      local left = streaming and 1 or (n - num(f[6]) + 1 + redis.call('ZCOUNT', key('b', id), '-inf', now) - idle)
      if streaming then free = math.min(free, 1 - lanes) end
      for _ = 1, math.min(free, left) do
        local lane = 1
        while used[lane] do lane = lane + 1 end
        used[lane] = true
        put_ticket(id, lane, {round = round, seq = 0, deadline = now + lease_ms, backoff = lease_ms, nonce = '', part = ''})
        set(id, 'damaged', 1)
        send('part', epoch, round, lane, 0, f[9])
        look(now + lease_ms)
      end
    elseif wait then
      look(now + wait)
    end
  end
end
if next_look then look_at(id, next_look) end
return out
