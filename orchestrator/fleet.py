"""Which workers live, and what they offer: heartbeats with host, pools and profile names (never values)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.connection import ledger_errors
from orchestrator.errors import InvalidSpec
from orchestrator.ledger import Ledger
from orchestrator.queues import queues_of
from orchestrator.settings import Settings
from orchestrator.spec import TransferSpec, file_host
from providers.schemes import Location

_FORGET_SECONDS = 7 * 86400


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What one worker process says of itself. ``seen_seconds_ago`` is by the ledger's clock."""

    process: str
    host: str
    pools: tuple[str, ...]
    profiles: tuple[str, ...]
    version: str = ""
    stuck: int = 0
    clock_ahead_seconds: float = field(default=0.0, compare=False)
    """How far the clock of its machine is ahead of the ledger's, as measured with its last heartbeat."""
    seen_seconds_ago: float = field(default=0.0, compare=False)


class Fleet:
    """Reads and writes the list of workers. Every shard has the heartbeats, because sweeps read them in Lua."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._redis = ledger.redis

    def beat(self, info: WorkerInfo) -> None:
        """Say that this process lives. One round trip."""
        with ledger_errors():
            now = self._now_ms()
            with self._redis.pipeline(transaction=False) as pipe:
                for prefix in self._ledger.prefixes:
                    pipe.zadd(f"{prefix}procs", {info.process: now})
                said = {
                    **asdict(info),
                    "clock_ahead_seconds": round(time.time() - now / 1000, 3),
                    "seen_seconds_ago": 0,
                }
                pipe.hset("hl:workers", info.process, json.dumps(said))
                pipe.zadd("hl:hosts", {info.host: now})
                pipe.execute()

    def leave(self, process: str) -> None:
        """A clean end: leases of this process, if any are left, are no deaths."""
        with ledger_errors():
            self._redis.hdel("hl:workers", process)

    def workers(self) -> list[WorkerInfo]:
        """Processes that were seen within two leases. Forgets those unseen for a week."""
        live_ms = 2 * self._ledger.settings.lease_ms
        with ledger_errors():
            now = self._now_ms()
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall("hl:workers")
                pipe.zrangebyscore(f"{self._ledger.prefixes[0]}procs", now - live_ms, "+inf", withscores=True)
                rows, beats = pipe.execute()
        seen = {process.decode(): score for process, score in beats}
        found = []
        for name, text in rows.items():
            if name.decode() in seen:
                values = json.loads(text)
                values.update(seen_seconds_ago=max(0.0, (now - seen[name.decode()]) / 1000))
                values.update(pools=tuple(values["pools"]), profiles=tuple(values["profiles"]))
                found.append(WorkerInfo(**{key: values[key] for key in WorkerInfo.__slots__ if key in values}))
        return found

    def hosts(self) -> set[str]:
        """Hosts that ever had a worker, up to a week ago: a host that reboots is no unknown host."""
        since = (time.time() - _FORGET_SECONDS) * 1000
        with ledger_errors():
            rows: Any = self._redis.zrangebyscore("hl:hosts", since, "+inf")
        return {each.decode() for each in rows}

    def forget_dead(self, forget_queues: Callable[[str], bool] = lambda _host: True) -> None:
        """Drop heartbeats of processes that are long gone, by the ledger's clock: that of this machine may be wrong.

        A host, such as a pod, is forgotten a week after its last process, once ``forget_queues`` says that its queues
        are gone: so a sweeper that dies in between leaves none behind.
        """
        with ledger_errors():
            now = self._now_ms()
            before = now - 3_600_000
            hosts: Any = self._redis.zrangebyscore("hl:hosts", "-inf", now - _FORGET_SECONDS * 1000)
            for host in hosts:
                if forget_queues(host.decode()):
                    self._redis.zrem("hl:hosts", host)
            for prefix in self._ledger.prefixes:
                gone: Any = self._redis.zrangebyscore(f"{prefix}procs", "-inf", before)
                for process in gone:
                    self._redis.hdel("hl:workers", process)
                self._redis.zremrangebyscore(f"{prefix}procs", "-inf", before)

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def check_against_fleet(
    spec: TransferSpec,
    source: Location,
    destination: Location,
    workers: list[WorkerInfo],
    hosts: set[str],
    settings: Settings,
) -> None:
    """Refuse a profile, pool or host nobody has. With no worker alive nothing is known: accept and wait."""
    for name, location in (("source", source), ("destination", destination)):
        host = file_host(location, settings)
        if host and hosts and host not in hosts | {settings.host}:
            raise InvalidSpec(f"{name} host", host, f"a host that has a worker: {', '.join(sorted(hosts))}")
    if not workers:
        return
    profiles = {each for worker in workers for each in worker.profiles}
    for field_name, wanted in (
        ("source_profile", spec.source_profile),
        ("destination_profile", spec.destination_profile),
    ):
        if wanted is not None and wanted not in profiles:
            known = ", ".join(sorted(profiles)) or "none is configured"
            raise InvalidSpec(field_name, wanted, f"a profile some worker has: {known}")
    pools = {each for worker in workers for each in worker.pools}
    if spec.pool is not None and spec.pool not in pools:
        raise InvalidSpec("pool", spec.pool, f"a pool some worker serves: {', '.join(sorted(pools))}")


def serves(worker: WorkerInfo, queue: str) -> bool:
    """Whether this worker listens to ``queue``."""
    return queue in queues_of(worker.host, worker.pools)
