"""Whether somebody works: live processes by pool, their versions, clocks and stuck threads, and what waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from haulage.doctor.check import Check, fail, ok, warn
from orchestrator.fleet import WorkerInfo, serves

_EVERYBODY_NEEDS = ("control", "express", "data")
_SKEW_WARN_SECONDS, _SKEW_FAIL_SECONDS = 5.0, 600.0
_LONG_QUEUED_SECONDS = 600.0
_OLD_SESSION_SECONDS = 86_400.0
_SHOWN = 5


def checks(
    workers: list[WorkerInfo],
    waiting: Mapping[str, int],
    *,
    version: str,
    lease_seconds: float,
    oldest_queued_seconds: float | None,
    sessions: Mapping[str, Mapping[str, Any]],
) -> list[Check]:
    """Everything about the fleet, from what was read once."""
    return [
        pools(workers),
        heartbeats(workers, lease_seconds),
        clocks(workers),
        versions(workers, version),
        stuck(workers),
        served(workers, waiting),
        oldest_queued(oldest_queued_seconds),
        old_sessions(sessions),
    ]


def pools(workers: list[WorkerInfo]) -> Check:
    """Live processes by pool. Without ``control`` nothing is prepared or completed."""
    count = Counter(pool for worker in workers for pool in worker.pools)
    if not workers:
        return fail("pools", "no worker lives: transfers are taken and wait", "start one: haulage worker")
    hosts = len({each.host for each in workers})
    text = ", ".join(f"{pool} {number}" for pool, number in sorted(count.items()))
    text = f"{len(workers)} processes on {hosts} {'host' if hosts == 1 else 'hosts'}: {text}"
    missing = [pool for pool in _EVERYBODY_NEEDS if not count[pool]]
    if "control" in missing:
        advice = "start one: haulage worker --pools control"
        return fail("pools", f"{text}; none serves control: nothing is prepared or completed", advice)
    if missing:
        advice = f"start one, unless it is scaled up on demand: haulage worker --pools {','.join(missing)}"
        return warn("pools", f"{text}; none serves {' or '.join(missing)}", advice)
    return ok("pools", text)


def heartbeats(workers: list[WorkerInfo], lease_seconds: float) -> Check:
    """A process beats every second. One that is late by half a lease is about to lose what it holds."""
    late = [each for each in workers if each.seen_seconds_ago > lease_seconds / 2]
    if late:
        text = f"silent for more than {lease_seconds / 2:g} s: {_names(each.process for each in late)}"
        return warn("heartbeats", text, "look at the load of these machines and their way to Redis")
    return ok("heartbeats", f"all {len(workers)} processes were heard within {lease_seconds / 2:g} s")


def clocks(workers: list[WorkerInfo]) -> Check:
    """How far the clocks of the workers' machines are from Redis'."""
    off = {each.host: each.clock_ahead_seconds for each in workers if abs(each.clock_ahead_seconds) > 0}
    worst = max((abs(each) for each in off.values()), default=0.0)
    far = {host: ahead for host, ahead in off.items() if abs(ahead) >= _SKEW_WARN_SECONDS}
    if not far:
        return ok("worker_clocks", f"workers' clocks are within {worst:.2f} s of Redis'")
    text = "clocks differ from Redis': " + _names(f"{host} by {ahead:+.0f} s" for host, ahead in sorted(far.items()))
    advice = "start a time service (chrony, systemd-timesyncd) on these machines"
    if worst >= _SKEW_FAIL_SECONDS:
        return fail("worker_clocks", f"{text}; stores will refuse their signatures", advice)
    return warn("worker_clocks", text, advice)


def versions(workers: list[WorkerInfo], mine: str) -> Check:
    """Mixed versions work during a roll-out; a forgotten machine is how they stay."""
    hosts: dict[str, set[str]] = {}
    for each in workers:
        hosts.setdefault(each.version, set()).add(each.host)
    if set(hosts) <= {mine}:
        return ok("versions", f"workers and this command are {mine}")
    text = "; ".join(f"{version} on {_names(sorted(names))}" for version, names in sorted(hosts.items()))
    return warn("versions", f"versions are mixed: {text}; this command is {mine}", "finish the upgrade")


def stuck(workers: list[WorkerInfo]) -> Check:
    """Threads that moved nothing for so long that their lease was let go."""
    bad = {each.process: each.stuck for each in workers if each.stuck}
    if bad:
        text = _names(f"{name} has {number}" for name, number in sorted(bad.items()))
        advice = "nothing to do: a process with half of its threads stuck restarts; look for a hung network mount"
        return warn("stuck_threads", f"stuck threads: {text}", advice)
    return ok("stuck_threads", "no stuck thread")


def served(workers: list[WorkerInfo], waiting: Mapping[str, int]) -> Check:
    """Messages wait only a moment where somebody serves the queue."""
    full = {queue: count for queue, count in waiting.items() if count}
    text = ", ".join(f"{queue} {count}" for queue, count in sorted(full.items())) or "none"
    alone = [queue for queue in full if not any(serves(each, queue) for each in workers)]
    if alone:
        return fail("queues", f"messages wait: {text}; nobody serves {_names(sorted(alone))}", _who_serves(alone[0]))
    return ok("queues", f"messages that wait: {text}")


def _who_serves(queue: str) -> str:
    name = queue.removeprefix("haulage.")
    if name.startswith("host."):
        host = name.removeprefix("host.").removesuffix(".control").removesuffix(".express")
        return f"start `haulage worker` on the machine with HAULAGE_HOST={host}: only it reaches these files"
    return f"start one: haulage worker --pools {name}"


def oldest_queued(seconds: float | None) -> Check:
    """Transfers that wait for a slot of their direction."""
    if seconds is None:
        return ok("oldest_queued", "no transfer waits for a slot")
    text = f"the oldest transfer in the queue waits for {seconds:.0f} s"
    advice = "add workers, or raise HAULAGE_UPLOAD_SLOTS, HAULAGE_DOWNLOAD_SLOTS, HAULAGE_COPY_SLOTS"
    return warn("oldest_queued", text, advice) if seconds >= _LONG_QUEUED_SECONDS else ok("oldest_queued", text)


def old_sessions(sessions: Mapping[str, Mapping[str, Any]]) -> Check:
    """Multipart uploads that are open cost money at most stores until they are completed or aborted."""
    now = time.time()
    old = [each for each, what in sessions.items() if now - float(what.get("opened_at") or now) > _OLD_SESSION_SECONDS]
    if old:
        text = f"{len(old)} uploads are open at stores for more than a day: transfers {_names(sorted(old))}"
        return warn("open_sessions", text, "resume, retry or cancel these transfers: haulage show ID")
    return ok("open_sessions", f"{len(sessions)} uploads are open at stores, none for more than a day")


def this_worker(workers: list[WorkerInfo], host: str, served_pools: Iterable[str]) -> Check:
    """Every pool of the settings has a live process of this machine: for the probe of a container."""
    mine = {pool for each in workers if each.host == host for pool in each.pools}
    missing = [pool for pool in served_pools if pool not in mine]
    if missing:
        text = f"no process of {host} lives that serves {' or '.join(missing)}"
        return fail("worker", text, "restart it, and look at its log; HAULAGE_POOLS must name the pools it serves")
    return ok("worker", f"processes of {host} serve {', '.join(sorted(mine))}")


def waiting_messages(broker: redis.Redis) -> dict[str, int]:
    """Messages by queue, of every queue of ours that holds one. Walks through the keys without blocking Redis."""
    found = {}
    for key in broker.scan_iter("haulage.*", count=1000, _type="list"):
        length: Any = broker.llen(key)
        found[key.decode(errors="replace")] = int(length)
    return found


def _names(names: Iterable[str]) -> str:
    """A few of them, and how many more."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
