"""What is known of a transfer that does not end: for the text of a failure, which may not come again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import Redis

_LONGEST = 400
_LOG_LINES = 40
_KINDS = {"l": "leases", "o": "their owners", "k": "tickets", "b": "parts to claim", "a": "attempts", "x": "failures"}


def ledger_view(redis: Redis, prefix: str, transfer_id: str) -> list[str]:
    """The record, leases, tickets and backlog as they are in Redis; times are unix ms by its clock, given first."""
    seconds, micros = redis.time()
    record = redis.hgetall(f"{prefix}t:{transfer_id}")
    record.pop(b"spec", None)
    lines = [f"now {int(seconds) * 1000 + int(micros) // 1000}", f"record {_shown(record)}"]
    lines += [f"{name} {_shown(_read(redis, f'{prefix}{kind}:{transfer_id}'))}" for kind, name in _KINDS.items()]
    lines.append(f"looked at {redis.zscore(f'{prefix}due', transfer_id)}")
    lines += [f"{name} {_shown(_read(redis, prefix + name))}" for name in ("sweep", "procs")]
    return lines


def log_tail(name: str, text: str, *, alive: bool) -> list[str]:
    """The last lines of a worker's log, long ones cut."""
    return [f"worker {name} {'lives' if alive else 'is dead'}", *_cut(text.splitlines()[-_LOG_LINES:])]


def _read(redis: Redis, key: str) -> object:
    match redis.type(key):
        case b"hash":
            return redis.hgetall(key)
        case b"zset":
            return redis.zrange(key, 0, 20, withscores=True)
        case b"list":
            return redis.lrange(key, 0, 3)
        case _:
            return {}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{_shown(name)}={_shown(each)}" for name, each in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(each) for each in value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else f"{value:.0f}"


def _cut(lines: Iterable[str]) -> list[str]:
    return [line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..." for line in lines]
