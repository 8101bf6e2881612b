"""Whether this Redis can be trusted with the ledger: workers ask when they start, ``haulage doctor`` at any time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

Info = Mapping[str, Any]

_OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a Redis, under a stable name, and what to do about it."""

    name: str
    message: str
    try_this: str


def check_redis(client: redis.Redis) -> list[str]:
    """Plain sentences about what is wrong, with what to do; empty when all is well."""
    try:
        info: Any = client.info("everything")
    except RedisError as exc:
        return [f"Redis cannot be inspected ({type(exc).__name__}): persistence and eviction are unchecked"]
    return [f"{each.message}; {each.try_this}" for each in faults(info)]


def product(info: Info) -> str:
    """``Valkey 8.1.0``."""
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', '0')}"


def faults(info: Info) -> Iterator[Fault]:
    """What INFO says that loses transfers, or keeps them from being recorded."""
    # Lua and stream commands that the ledger needs are there since 6.2.
    if tuple(int(each) for each in product(info).split()[1].split(".")[:2]) < _OLDEST:
        yield Fault("redis_version", f"{product(info)} is too old", "use Valkey 8, or Redis 6.2 or newer")
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):  # Valkey names the field server_mode
        yield Fault("redis_mode", "this is a Redis Cluster: Celery cannot use it as a broker", "use a plain Redis")
    if str(info.get("role", "master")) != "master":
        text = "this is a replica: it takes no writes"
        yield Fault("redis_role", text, "name the primary in HAULAGE_REDIS_URL")
    if not int(info.get("aof_enabled", 0)):
        text = "persistence is off (appendonly no): a restart of Redis forgets every transfer"
        yield Fault("redis_persistence", text, "CONFIG SET appendonly yes, and the same in redis.conf")
    bad = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if info.get(name, "ok") != "ok"]
    if bad:
        text = f"Redis could not write its append-only file ({', '.join(bad)})"
        yield Fault("redis_last_write", text, "look at the free space of Redis' disk and at its log")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: Redis may drop parts of the ledger"
        advice = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
        yield Fault("redis_eviction", text, advice)
