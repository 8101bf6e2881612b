"""Whether the Redis that answers can be trusted with the ledger: what INFO, CONFIG and TIME say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

from haulage.doctor.check import Check, fail, ok, warn

Info = Mapping[str, Any]

_OLDEST = (6, 2)
_MIB = 1 << 20
_CLOCK_WARN_SECONDS = 5.0
_CLOCK_FAIL_SECONDS = 600.0
"""S3 refuses a signature that is 15 minutes off; this leaves a margin."""


def checks(client: redis.Redis) -> list[Check]:
    """Everything about one Redis that answers. A user without INFO learns that nothing could be looked at."""
    try:
        info: Info = client.info("everything")
    except redis.RedisError:
        text = "INFO is not allowed to this user: persistence, eviction and memory are unchecked"
        return [warn("redis_info", text, "allow +info to it, see deploy/redis/users.acl"), clock(client)]
    looks = (version, mode, role, append_only, last_write, eviction, memory)
    return [*(each(info) for each in looks), fsync(client), clock(client)]


def version(info: Info) -> Check:
    """Lua and stream commands that the ledger needs are there since 6.2."""
    text = str(info.get("valkey_version") or info.get("redis_version", "0"))
    product = "Valkey" if "valkey_version" in info else "Redis"
    if tuple(int(each) for each in text.split(".")[:2]) < _OLDEST:
        return fail("redis_version", f"{product} {text} is too old", "use Valkey 8, or Redis 6.2 or newer")
    return ok("redis_version", f"{product} {text}")


def mode(info: Info) -> Check:
    """Celery's broker cannot be a cluster. Valkey names the field ``server_mode``."""
    found = str(info.get("redis_mode") or info.get("server_mode", "standalone"))
    if found == "cluster":
        return fail("redis_mode", "this is a Redis Cluster: Celery cannot use it as a broker", "use a plain Redis")
    return ok("redis_mode", f"mode {found}")


def role(info: Info) -> Check:
    """A replica refuses every move."""
    if str(info.get("role", "master")) != "master":
        return fail("redis_role", "this is a replica: it takes no writes", "name the primary in HAULAGE_REDIS_URL")
    return ok("redis_role", f"primary, {info.get('connected_slaves', 0)} replicas")


def append_only(info: Info) -> Check:
    """Without the append-only file a restart forgets transfers."""
    if not int(info.get("aof_enabled", 0)):
        text = "persistence is off (appendonly no): a restart of Redis forgets every transfer"
        return fail("redis_persistence", text, "CONFIG SET appendonly yes, and the same in redis.conf")
    return ok("redis_persistence", "the append-only file is on")


def last_write(info: Info) -> Check:
    """A full disk under Redis stops all writes."""
    bad = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if info.get(name, "ok") != "ok"]
    if bad:
        text = f"Redis could not write its append-only file ({', '.join(bad)})"
        return fail("redis_last_write", text, "look at the free space of Redis' disk and at its log")
    return ok("redis_last_write", "the append-only file was written last time")


def fsync(client: redis.Redis) -> Check:
    """everysec loses up to a second at a power cut, which the ledger repairs; ``no`` may lose half a minute."""
    try:
        found: Any = client.config_get("appendfsync")
    except redis.RedisError:
        text = "appendfsync is unknown: CONFIG is not allowed to this user"
        return ok("redis_appendfsync", text)  # usual with managed services and a careful ACL
    value = found.get("appendfsync", "everysec")
    if value == "no":
        text = "appendfsync is no: a power cut may lose half a minute of what was recorded"
        return warn("redis_appendfsync", text, "CONFIG SET appendfsync everysec, and the same in redis.conf")
    return ok("redis_appendfsync", f"appendfsync {value}")


def eviction(info: Info) -> Check:
    """Any other policy may drop a key of the ledger."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: Redis may drop parts of the ledger"
        return fail("redis_eviction", text, "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf")
    return ok("redis_eviction", "maxmemory-policy noeviction")


def memory(info: Info) -> Check:
    """With noeviction a full Redis refuses every write."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        limit, what = int(info.get("total_system_memory", 0)), "of the machine's memory, and maxmemory is not set"
    else:
        what = "of maxmemory"
    if not limit:
        return ok("redis_memory", f"{used // _MIB} MiB used")
    share = used / limit
    text = f"{used / _MIB:.1f} MiB used, {share:.0%} {what} ({limit / _MIB:.0f} MiB)"
    advice = "raise maxmemory, or lower HAULAGE_RETENTION_SECONDS and HAULAGE_QUEUE_CAPACITY"
    if share >= 0.98:
        return fail("redis_memory", f"{text}: Redis refuses writes", advice)
    return warn("redis_memory", text, advice) if share >= 0.8 else ok("redis_memory", text)


def clock(client: redis.Redis, *, now: Callable[[], float] = time.time) -> Check:
    """The ledger goes by Redis' clock alone; signatures of stores and the times in logs go by this machine's."""
    before = now()
    seconds, micros = client.time()
    ahead = (before + now()) / 2 - (int(seconds) + int(micros) / 1e6)
    text = f"this machine's clock is {abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} Redis'"
    advice = "start a time service (chrony, systemd-timesyncd) on both machines"
    if abs(ahead) >= _CLOCK_FAIL_SECONDS:
        return fail("clock", f"{text}: stores will refuse signatures", advice)
    return warn("clock", text, advice) if abs(ahead) >= _CLOCK_WARN_SECONDS else ok("clock", text)
