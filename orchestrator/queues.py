"""Names of the queues, and which of them a worker serves. Pure."""

from __future__ import annotations

from orchestrator.plan import LARGEST_DEFAULT_BYTES, Plan
from orchestrator.settings import Settings
from orchestrator.spec import TransferSpec, file_host
from providers.schemes import Location

_APART = frozenset({"control", "express"})
"""Pools of their own processes: what they hold must never wait behind a lane."""


def pool_queue(pool: str) -> str:
    """The queue of a pool."""
    return f"haulage.{pool}"


def host_queue(host: str, pool: str = "data") -> str:
    """The queue of one machine, for files only it can touch: plain for parts, with a suffix for the pools apart."""
    return f"haulage.host.{host}" + (f".{pool}" if pool in _APART else "")


def queues_of_host(host: str) -> list[str]:
    """All queues of one machine."""
    return list(dict.fromkeys(host_queue(host, pool) for pool in ("data", *sorted(_APART))))


def queues_of(host: str, pools: tuple[str, ...]) -> list[str]:
    """What a worker process on ``host`` that serves ``pools`` listens to. Any pool of parts serves its host's files."""
    return [*(pool_queue(pool) for pool in pools), *dict.fromkeys(host_queue(host, pool) for pool in pools)]


def control_queue(source: Location, destination: Location, settings: Settings) -> str:
    """Where ``prepare``, ``complete`` and ``abort`` run: on the file's host if there is one."""
    host = file_host(source, settings) or file_host(destination, settings)
    return host_queue(host, "control") if host else pool_queue("control")


def part_queue(spec: TransferSpec, source: Location, destination: Location, settings: Settings, plan: Plan) -> str:
    """Where the parts run: the file's host, the pool asked for, ``express`` for one part, else ``data``.

    One part may be huge where the destination takes a single PUT: it would hold up all that is small.
    """
    host = file_host(source, settings) or file_host(destination, settings)
    is_small = plan.part_count == 1 and (plan.size_bytes or 0) <= LARGEST_DEFAULT_BYTES
    pool = spec.pool or ("express" if is_small else "data")
    return host_queue(host, pool) if host else pool_queue(pool)
