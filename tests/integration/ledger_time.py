"""Lets time pass in a ledger without waiting: every instant it holds is moved into the past."""

from __future__ import annotations

import redis

_SHIFT = """
local P, ms, missed = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local fields = {'wake_at', 'waiting_since', 'not_before', 'prep_first', 'fin_first', 'ended', 'progress_at',
  'retrying_at'}
local function earlier(text) return string.format('%.0f', math.max(tonumber(text) - ms, 1)) end
local function shift_set(name)
  for _, member in ipairs(redis.call('ZRANGE', name, 0, -1)) do redis.call('ZINCRBY', name, -ms, member) end
end
local function shift_hash(name, change)
  local all = redis.call('HGETALL', name)
  for at = 1, #all, 2 do redis.call('HSET', name, all[at], (change(all[at + 1]))) end
end
local kinds = {
  t = function(name)
    for _, each in ipairs(fields) do
      local at = tonumber(redis.call('HGET', name, each) or 0)
      if at and at > 0 then redis.call('HSET', name, each, earlier(at)) end
    end
  end,
  l = shift_set,
  b = shift_set,
  k = function(name) shift_hash(name, function(text) return string.gsub(text, '^(%d+:%d+:)(%d+)', function(head, at)
    return head .. earlier(at) end) end) end,
  o = function(name) shift_hash(name, function(text) return string.gsub(text, '(%d+)$', earlier) end) end,
  a = function(name) shift_hash(name, function(text) return string.gsub(text, '(%d+)$', earlier) end) end,
  due = shift_set,
  outbox = shift_set,
  notice = function(name) redis.call('HSET', name, 'at', earlier(redis.call('HGET', name, 'at'))) end,
  procs = shift_set,
  gone = shift_set,
  sweep = function(name)
    for _, each in ipairs(missed and {'last', 'grace'} or {'grace'}) do
      local at = tonumber(redis.call('HGET', name, each) or 0)
      if at > 0 then redis.call('HSET', name, each, earlier(at)) end
    end
  end,
}
for _, name in ipairs(redis.call('KEYS', P .. '*')) do
  local kind = string.match(string.sub(name, #P + 1), '^%l+')
  if kinds[kind] then kinds[kind](name) end
end
"""


def let_pass(client: redis.Redis, milliseconds: int, *, missed_sweeps: bool = False, prefix: str = "hl:{s0}:") -> None:
    """Leases, tickets, back-offs, waits and heartbeats of a shard are all ``milliseconds`` older now.

    Sweeps went on meanwhile, unless ``missed_sweeps``: then Redis, or the whole fleet, was away.
    """
    client.eval(_SHIFT, 0, prefix, milliseconds, int(missed_sweeps))
