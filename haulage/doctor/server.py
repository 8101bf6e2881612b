"""Whether the Redis that answers can be trusted with the ledger: what INFO, CONFIG and TIME say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from haulage.doctor.check import Check, fail, ok, warn
from workers.checks import Info, faults, product
from workers.rights import missing_rights

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
    return [*judged(info), memory(info), fsync(client), clock(client)]


def judged(info: Info) -> list[Check]:
    """What a worker looks at too when it starts."""
    well = {
        "redis_version": product(info),
        "redis_mode": f"mode {info.get('redis_mode') or info.get('server_mode', 'standalone')}",
        "redis_role": f"primary, {info.get('connected_slaves', 0)} replicas",
        "redis_persistence": "the append-only file is on",
        "redis_last_write": "the append-only file was written last time",
        "redis_eviction": "maxmemory-policy noeviction",
    }
    bad = {each.name: fail(each.name, each.message, each.try_this) for each in faults(info)}
    return [bad.get(name) or ok(name, text) for name, text in well.items()]


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


def rights(broker: redis.Redis) -> list[Check]:
    """A user of an ACL needs the keys and channels of the queues too. Nothing where no write is taken at all."""
    try:
        missing = missing_rights(broker)
    except redis.RedisError:  # a replica, a cluster: said already
        return []
    if missing:
        text = f"the user may not use all of the queues, so workers get no work; missing: {' '.join(missing)}"
        return [fail("broker_rights", text, "give it the rights in deploy/redis/users.acl")]
    return [ok("broker_rights", "the user may use the queues")]


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
