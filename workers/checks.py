"""What a worker looks at when it starts: whether this Redis can be trusted with the ledger."""

from __future__ import annotations

import redis
from redis.exceptions import RedisError

_OLDEST = (6, 2)


def check_redis(client: redis.Redis) -> list[str]:
    """Plain sentences about what is wrong, with what to do; empty when all is well."""
    try:
        info = client.info("server")
        memory, persistence = client.info("memory"), client.info("persistence")
    except RedisError as exc:
        return [f"Redis cannot be inspected ({type(exc).__name__}): persistence and eviction are unchecked"]
    problems = []
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    if tuple(int(each) for each in version.split(".")[:2]) < _OLDEST:
        problems.append(f"Redis {version} is too old: 6.2 or newer is needed")
    if not int(persistence.get("aof_enabled", 0)):
        problems.append("persistence is off: a Redis restart forgets transfers; set 'appendonly yes'")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        problems.append(f"maxmemory-policy is {policy}: Redis may drop the ledger; set 'noeviction'")
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        problems.append("this is a Redis Cluster: Celery cannot use it as a broker; use a plain or Sentinel Redis")
    return problems
