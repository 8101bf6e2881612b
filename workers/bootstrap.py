"""What a worker process builds once, after the fork. Only tasks and the worker's start-up call ``deps()``."""

from __future__ import annotations

import os
import random
import secrets
import threading
from dataclasses import dataclass, field

from celery import Celery

from orchestrator.blobs import RedisBlobs
from orchestrator.connection import connect
from orchestrator.dispatch import Dispatcher, make_app
from orchestrator.fleet import Fleet, WorkerInfo
from orchestrator.ledger import Ledger
from orchestrator.plan import Plan
from orchestrator.queues import part_queue
from orchestrator.settings import Settings, load_settings
from orchestrator.signed_plans import LedgerPlans
from providers.base import Services
from workers.endpoints import EndpointCache, Endpoints
from workers.leases import LeaseKeeper
from workers.metrics import Metrics, metrics_of_process
from workers.session_factory import session_factory

_lock = threading.Lock()
_built: dict[int, Deps] = {}


@dataclass(frozen=True, slots=True)
class Deps:
    """The collaborators of every task. Shared by the threads of one process."""

    settings: Settings
    ledger: Ledger
    fleet: Fleet
    dispatcher: Dispatcher
    keeper: LeaseKeeper
    endpoints: EndpointCache
    process: str
    info: WorkerInfo
    rng: random.Random
    metrics: Metrics = field(default_factory=Metrics)

    def part_queue(self, ends: Endpoints, plan: Plan) -> str:
        """Where the parts of this transfer run."""
        return part_queue(ends.spec, ends.source_location, ends.destination_location, self.settings, plan)


def build(
    settings: Settings, app: Celery | None = None, *, pools: tuple[str, ...] | None = None, threads: int = 0
) -> Deps:
    """Connect everything; nothing is started yet. ``threads`` > 0: leave when half of them are stuck."""
    process = f"{settings.host}:{os.getpid()}:{secrets.token_hex(3)}"
    ledger = Ledger(connect(settings), settings)
    fleet = Fleet(ledger)
    info = WorkerInfo(process, settings.host, pools or settings.pools, tuple(settings.profile_names()), version())
    services = Services(
        blobs=RedisBlobs(ledger.redis, settings.retention_seconds),
        plans=LedgerPlans(ledger),
        roots=tuple(settings.roots),
        connect_seconds=settings.connect_seconds,
        read_seconds=settings.read_seconds,
        minimum_bytes_per_second=settings.minimum_bytes_per_second,
        stall_seconds=settings.stall_seconds,
        session_factory=session_factory(settings),
    )

    def beat(stuck: int) -> None:
        fleet.beat(WorkerInfo(info.process, info.host, info.pools, info.profiles, info.version, stuck))

    return Deps(
        settings=settings,
        ledger=ledger,
        fleet=fleet,
        dispatcher=Dispatcher(app or make_app(settings)),
        keeper=LeaseKeeper(ledger, process, beat=beat, slots=threads, give_up=_leave),
        endpoints=EndpointCache(ledger, settings, services),
        process=process,
        info=info,
        rng=random.SystemRandom(),
        metrics=metrics_of_process(),
    )


def deps() -> Deps:
    """This process's collaborators, built and started when first asked for."""
    pid = os.getpid()
    with _lock:
        if pid not in _built:
            from workers.app import app  # the app imports the tasks, and they import this module

            _built.clear()
            pools = tuple(filter(None, os.environ.get("HAULAGE_PROCESS_POOLS", "").split(",")))
            # Set by the supervisor, who starts another process in place of one that leaves.
            threads = int(os.environ.get("HAULAGE_PROCESS_THREADS", "0"))
            made = build(load_settings(), app, pools=pools or None, threads=threads)
            made.keeper.start()
            _built[pid] = made
        return _built[pid]


def _leave() -> None:
    """No clean end: it would wait for the threads that are stuck."""
    os._exit(70)


def started() -> Deps | None:
    """What ``deps()`` has built, without waiting for it: a signal may come while the same thread builds."""
    return _built.get(os.getpid())


def version() -> str:
    """The installed version, or ``0`` in a bare checkout."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("haulage")
    except PackageNotFoundError:
        return "0"
