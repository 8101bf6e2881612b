-- Put before every move. KEYS[1] is the prefix of the shard, such as hl:{s0}: ; all keys of a shard hash alike.
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local FINAL = {completed = true, cancelled = true}
local ENDED = {completed = true, cancelled = true, failed = true}
local KEPT = {'t', 'l', 'o', 'b', 'a', 'x', 'e', 'd', 'p'}

local function key(kind, id) return P .. kind .. ':' .. id end
local function num(value) return tonumber(value or 0) or 0 end
local function get(id, ...) return redis.call('HMGET', key('t', id), ...) end
local function set(id, ...) redis.call('HSET', key('t', id), ...) end
local function look_at(id, at) redis.call('ZADD', P .. 'due', 'LT', at, id) end

-- One worker wakes and looks into the outbox, whichever it is. One ring is enough for any number of notices.
local function ring()
  redis.call('DEL', P .. 'bell')
  redis.call('LPUSH', P .. 'bell', 1)
end
-- The application asked to be told: a notice lies in the outbox from the step on that ends the transfer.
-- It has all it needs, because the record may expire, or live on by a retry, before the notice is taken.
local function book_notice(id, state)
  local f = get(id, 'spec', 'epoch', 'error', 'result', 'reference', 'tenant')
  if not f[1] or not string.find(f[1], '"notify":', 1, true) then return end
  local fine, spec = pcall(cjson.decode, f[1])
  if not fine or type(spec.notify) ~= 'table' then return end
  local name = id .. '.' .. f[2]
  redis.call('HSET', key('notice', name), 'id', id, 'at', now, 'state', state, 'task', spec.notify.task or '', 'queue', spec.notify.queue or '',
    'error', state == 'failed' and f[3] or '{}', 'result', state == 'completed' and f[4] or '{}', 'reference', f[5] or '', 'tenant', f[6] or '')
  redis.call('ZADD', P .. 'outbox', now, name)
  ring()
end

-- Events: one stream per transfer and one for all, both bounded; an event has the same position in both. Every kind that
-- ends a transfer passes here once.
local function event(id, kind, data)
  local text = data
  if not text or text == '' then text = '{}' end
  local at = redis.call('XADD', P .. 'events', 'MAXLEN', '~', 100000, '*', 'id', id, 'kind', kind, 'at', now, 'data', text)
  local mine = redis.pcall('XADD', key('e', id), 'MAXLEN', '~', 1000, at, 'kind', kind, 'at', now, 'data', text)
  if type(mine) == 'table' and mine.err then -- somebody removed the stream of all, and the clock went back
    redis.call('XADD', key('e', id), 'MAXLEN', '~', 1000, '*', 'kind', kind, 'at', now, 'data', text)
  end
  if ENDED[kind] then book_notice(id, kind) end
end
-- JSON data with more fields.
local function with(text, more)
  if not text or text == '' or text == '{}' then return '{' .. more .. '}' end
  return string.sub(text, 1, -2) .. ',' .. more .. '}'
end
local function so_far(id)
  local f = get(id, 'done_bytes', 'done')
  return string.format('{"done_bytes":%.0f,"parts_done":%.0f}', num(f[1]), num(f[2]))
end
-- The early total: a reader knows the whole and where it goes on before the first part is moved.
local function tell_started(id)
  local f = get(id, 'size', 'n', 'part_size')
  local size = f[1] and f[1] ~= '' and f[1] or 'null'
  event(id, 'started', with(so_far(id), string.format('"size_bytes":%s,"parts":%.0f,"part_size_bytes":%.0f', size, num(f[2]), num(f[3]))))
end
-- Progress is sampled: at most one event in 200 ms and for each hundredth of the whole (a twentieth of what was done,
-- where the whole is unknown), so that it never pushes other events out of the stream.
local function progress_is_due(bytes, told_at, told_bytes, size)
  if now - num(told_at) < 200 then return false end
  local told = num(told_bytes)
  local step = size and size ~= '' and num(size) / 100 or told / 20
  return math.abs(bytes - told) >= step
end
local function tell_progress(id, bytes, done)
  set(id, 'progress_at', now, 'progress_bytes', bytes)
  event(id, 'progress', string.format('{"done_bytes":%.0f,"parts_done":%.0f}', bytes, done))
end
-- Ten thousand parts may fail together: after the first hundred, one event in 10 s. The history has the last attempts.
local function tell_retrying(id, err, delay)
  local count = redis.call('HINCRBY', key('t', id), 'retries', 1)
  if count > 100 and now - num(get(id, 'retrying_at')[1]) < 10000 then return end
  set(id, 'retrying_at', now)
  event(id, 'retrying', with(err, string.format('"delay_ms":%.0f', delay)))
end
local function tell_waiting(id, err, reason, delay)
  event(id, 'waiting', with(err, string.format('"reason":"%s","delay_ms":%.0f', reason, delay)))
end

-- Busy workers hear of a stop at once; if the message is lost, the next renewal tells them.
local function shout(id, state, epoch) redis.call('PUBLISH', 'hl:stop', id .. ' ' .. state .. ' ' .. epoch) end

-- Owner record of a lease: token|process|attempt|lane|first_ms. Members of the lease set: part numbers, prep, fin, abort.
local function owner(id, member)
  local text = redis.call('HGET', key('o', id), member)
  if not text then return nil end
  local token, process, attempt, lane, first = string.match(text, '^([^|]*)|([^|]*)|(%d*)|(%d*)|(%d*)$')
  return {token = token, process = process, attempt = num(attempt), lane = num(lane), first = num(first)}
end
local function lease(id, member, token, process, attempt, lane, first, lease_ms)
  redis.call('ZADD', key('l', id), now + lease_ms, member)
  redis.call('HSET', key('o', id), member, table.concat({token, process, attempt, lane, first}, '|'))
  look_at(id, now + lease_ms)
end
local function drop_lease(id, member)
  redis.call('ZREM', key('l', id), member)
  redis.call('HDEL', key('o', id), member)
  redis.call('HDEL', key('v', id), member)
end
-- While sweeps hold still after an outage (see sweep_start), a lease that ran out is live: its holder could not renew.
local function lease_is_live(id, member)
  local deadline = redis.call('ZSCORE', key('l', id), member)
  return deadline and (num(deadline) > now or num(redis.call('HGET', P .. 'sweep', 'grace')) > now)
end
-- The lease of a caller that asks again because the reply was lost: the nonce is its own.
local function asked_before(id, member, nonce)
  local mine = owner(id, member)
  return mine and string.sub(mine.token, -#nonce) == nonce and mine or nil
end
local function new_token(id, nonce) return redis.call('HINCRBY', key('t', id), 'tok', 1) .. '.' .. nonce end

-- The last failed attempts, for people.
local function note_attempt(id, err)
  redis.call('LPUSH', key('x', id), err)
  redis.call('LTRIM', key('x', id), 0, 199)
end

-- Attempt record of a part that failed or died: attempts:deaths:first_ms. A part that never did has none.
local function attempts(id, part)
  local text = redis.call('HGET', key('a', id), part)
  if not text then return 0, 0, 0 end
  local tried, deaths, first = string.match(text, '^(%d+):(%d+):(%d+)$')
  return num(tried), num(deaths), num(first)
end

-- Ticket of a lane: round:seq:deadline:backoff_ms:nonce:part (nonce and part of the claim that consumed it last).
local function ticket(id, lane)
  local text = redis.call('HGET', key('k', id), lane)
  if not text then return nil end
  local round, seq, deadline, backoff, nonce, part = string.match(text, '^(%d+):(%d+):(%d+):(%d+):([^:]*):(%d*)$')
  return {round = num(round), seq = num(seq), deadline = num(deadline), backoff = num(backoff), nonce = nonce, part = part}
end
local function put_ticket(id, lane, k)
  local text = string.format('%d:%d:%.0f:%d:%s:%s', k.round, k.seq, k.deadline, k.backoff, k.nonce, k.part)
  redis.call('HSET', key('k', id), lane, text)
end
local function push_ticket(id, lane, deadline)
  if lane == 0 then return end
  local k = ticket(id, lane)
  if k and k.deadline < deadline then k.deadline = deadline put_ticket(id, lane, k) end
end

-- The next part a lane could take now: number, or nil and the ms until one can (nil: only leased parts are left).
-- A part that killed its process twice is taken only while no other part of the transfer is leased.
-- A sequential destination takes the lowest missing part or none: one lane, and nothing past a part that backs off.
local function claimable(id, next, n)
  local due = redis.call('ZRANGEBYSCORE', key('b', id), '-inf', now, 'LIMIT', 0, 1)[1]
  if due then return num(due) end
  local first = redis.call('ZRANGE', key('b', id), 0, 0, 'WITHSCORES')
  if next <= n and not (first[1] and get(id, 'sequential')[1] == '1') then return next end
  if first[1] then return nil, num(first[2]) - now end
  return nil, nil
end

-- A new round: tickets for as many lanes as have work. Runs before the chord is published, so a doubled caller gets no round.
local function arm(id, lease_ms)
  local f = get(id, 'epoch', 'round', 'pif', 'next', 'n', 'stream')
  local left = num(f[5]) - num(f[4]) + 1 + redis.call('ZCARD', key('b', id))
  local lanes = math.max(1, math.min(num(f[3]), left))
  if f[6] == '1' then lanes = 1 end
  local round = redis.call('HINCRBY', key('t', id), 'round', 1)
  redis.call('DEL', key('k', id))
  -- One lane is no chord: Celery would turn it into a chain and complete after the first part. Its last finish completes.
  set(id, 'damaged', lanes == 1 and 1 or 0)
  for lane = 1, lanes do
    put_ticket(id, lane, {round = round, seq = 0, deadline = now + lease_ms, backoff = lease_ms, nonce = '', part = ''})
  end
  look_at(id, now + lease_ms)
  return {'armed', num(f[1]), round, lanes}
end

-- Since when nothing went on. Looking again in vain does not start it anew, or no wait would ever free its slot.
local function waiting_since(id)
  local since = num(get(id, 'waiting_since')[1])
  return since > 0 and since or now
end
-- The elapsed budget of retries is not for time spent paused or waiting: the clocks start anew.
local function restart_clocks(id)
  local all = redis.call('HGETALL', key('a', id))
  for at = 1, #all, 2 do
    redis.call('HSET', key('a', id), all[at], (string.gsub(all[at + 1], '%d+$', string.format('%.0f', now))))
  end
  if num(get(id, 'fin_attempts')[1]) > 0 then set(id, 'fin_first', now) end
end
local function leave_admission(id, direction)
  redis.call('SREM', P .. 'slots:' .. direction, id)
  redis.call('ZREM', P .. 'queue:' .. direction, id)
end
-- Score of the queue: priority first, then first come first served.
local function enqueue(id, direction, priority)
  redis.call('ZADD', P .. 'queue:' .. direction, 'NX', num(priority) * 4398046511104 + now, id)
end
local function free_destination(id)
  for _, dest in ipairs(redis.call('SMEMBERS', key('d', id))) do
    if redis.call('HGET', P .. 'dest', dest) == id then redis.call('HDEL', P .. 'dest', dest) end
  end
end
local function take_destination(id, dest)
  local other = redis.call('HGET', P .. 'dest', dest)
  if other and other ~= id then return other end
  redis.call('HSET', P .. 'dest', dest, id)
  redis.call('SADD', key('d', id), dest)
  return nil
end

-- Receipts lie in buckets of 100 parts. A stream does not know its count (n) until it has ended.
local function buckets(id)
  local f = get(id, 'n', 'done')
  return math.floor(math.max(num(f[1]), num(f[2])) / 100)
end
-- A late move of an ended transfer may make a key anew: it goes when the record goes.
local function expire_with_record(id, extra)
  local left = redis.call('PTTL', key('t', id))
  if left <= 0 then return end
  for _, kept in ipairs(KEPT) do redis.call('PEXPIRE', key(kept, id), left) end
  if extra then redis.call('PEXPIRE', extra, left) end
end
-- An upload at the store, or a temporary file, may be left that nobody asked to keep: one that has a name, or was about to.
local function is_dirty(id)
  local f = get(id, 'session', 'intent_at', 'keep')
  return ((f[1] and f[1] ~= '') or num(f[2]) > 0) and f[3] ~= '1'
end
-- Everything that ends a transfer passes here: slot and destination are freed, tickets die, the clean-up is booked.
local function finish_transfer(id, state, kind, data, retention_ms)
  local f = get(id, 'direction', 'epoch')
  set(id, 'state', state, 'reason', '', 'ended', now, 'wake_at', 0, 'wish', '')
  leave_admission(id, f[1])
  redis.call('DEL', key('k', id), key('v', id))
  redis.call('ZREM', P .. 'due', id)
  free_destination(id)
  if state == 'completed' then
    redis.call('HDEL', P .. 'sessions', id)
    redis.call('DEL', key('o', id), key('l', id), key('b', id), key('a', id))
  end
  shout(id, state, f[2])
  if kind ~= '' then event(id, kind, data) end
  -- What `retry` needs is kept for a while; receipts of what is over for good are not. A failed transfer that left something
  -- at the store stays until the sweeper cancels it, or nobody would ever drop that.
  local stays = state == 'failed' and is_dirty(id)
  for bucket = 0, buckets(id) do
    if FINAL[state] then redis.call('UNLINK', key('r', id) .. ':' .. bucket)
    elseif not stays then redis.call('PEXPIRE', key('r', id) .. ':' .. bucket, retention_ms) end
  end
  -- Signed URLs go as soon as nobody needs them: the clean-up of a cancelled transfer may.
  if state == 'completed' or (state == 'cancelled' and get(id, 'cleanup')[1] ~= 'pending') then redis.call('DEL', key('p', id)) end
  for _, kept in ipairs(stays and {} or KEPT) do redis.call('PEXPIRE', key(kept, id), retention_ms) end
  redis.call('ZADD', P .. 'gone', now + retention_ms, id)
end
-- The end by cancel: told of at once where nothing is left, else after the first try to clean up. Answers whether that is due.
local function cancel_transfer(id, data, retention_ms)
  redis.call('HINCRBY', key('t', id), 'epoch', 1)
  local dirty = is_dirty(id)
  set(id, 'cleanup', dirty and 'pending' or 'done')
  finish_transfer(id, 'cancelled', dirty and '' or 'cancelled', data, retention_ms)
  return dirty
end
-- Pause or cancel during a commit is a wish; the commit did not succeed, so it comes true. Once the object is visible and
-- only its checksum is still looked at, it does not: nobody shall be told of a cancel and find the object.
local function grant_wish(id, data, retention_ms)
  local f = get(id, 'wish', 'direction', 'committed')
  if f[3] == '1' then return nil end
  if f[1] == 'cancel' then
    if cancel_transfer(id, data, retention_ms) then look_at(id, now) end
    return 'cancelled'
  end
  if f[1] == 'pause' then
    local epoch = redis.call('HINCRBY', key('t', id), 'epoch', 1)
    set(id, 'state', 'paused', 'reason', '', 'wish', '', 'wake_at', 0)
    leave_admission(id, f[2])
    event(id, 'paused', so_far(id))
    shout(id, 'paused', epoch)
    return 'paused'
  end
  return nil
end
-- A failed transfer lives on: nothing of it may expire any more.
local function persist_transfer(id)
  for _, kept in ipairs(KEPT) do redis.call('PERSIST', key(kept, id)) end
  for bucket = 0, buckets(id) do redis.call('PERSIST', key('r', id) .. ':' .. bucket) end
  redis.call('ZREM', P .. 'gone', id)
end

-- Back to prepare under a new epoch: the session is gone, the source changed, or a stream (one lease from its first byte
-- to its last) ended early.
local function back_to_prepare(id, delay)
  redis.call('HINCRBY', key('t', id), 'epoch', 1)
  redis.call('DEL', key('k', id))
  set(id, 'state', 'preparing', 'reason', '', 'wake_at', now + delay, 'prep_attempts', 0, 'prep_first', now)
  look_at(id, now + delay)
end
