"""The Celery application of a worker: ``celery -A workers worker`` or, supervised, ``haulage worker``."""

from __future__ import annotations

from typing import Any, ClassVar

import structlog
from celery import Celery, bootsteps, signals

from orchestrator.connection import connect, place_of
from orchestrator.dispatch import Dispatcher, declared, make_app
from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger import Ledger
from orchestrator.queues import queues_of
from orchestrator.settings import Settings, load_settings
from workers.bootstrap import deps, started
from workers.checks import check_redis
from workers.leaving import leave_without_redis
from workers.logs import configure_logs
from workers.sweeper import Sweeper
from workers.tasks import register

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> Celery:
    """The application with our tasks and the sweeper. Without ``-Q`` it serves every pool of the settings."""
    app = make_app(settings)
    app.conf.task_queues = [declared(name) for name in queues_of(settings.host, tuple(settings.pools))]
    app.conf.worker_pool = "threads"
    app.conf.worker_concurrency = 8
    app.conf.worker_consumer = "workers.consumer:PatientConsumer"
    register(app)
    app.steps["worker"].add(SweeperStep)
    return app


class SweeperStep(bootsteps.StartStopStep):
    """Starts and stops the sweeper with the worker."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.sweeper: Sweeper | None = None

    def start(self, parent: Any) -> None:
        settings = load_settings()
        here = deps()
        ledger = Ledger(connect(settings), settings)
        for warning in check_redis(ledger.redis):
            log.warning("redis_setting", problem=warning)
        try:
            here.fleet.beat(here.info)  # known before it takes work: submitters check profiles and pools against it
        except LedgerUnavailable as exc:
            here.keeper.outages.failed("heartbeat_not_sent", place_of(settings.redis), exc)
        self.sweeper = Sweeper(ledger, Dispatcher(parent.app), here.process, outages=here.keeper.outages)
        self.sweeper.start()
        log.info("worker_started", process=here.process, host=settings.host, pools=list(here.info.pools))

    def stop(self, parent: Any) -> None:
        if self.sweeper:
            self.sweeper.close()


@signals.worker_shutting_down.connect(weak=False)
def _drain(**_kwargs: Any) -> None:
    """Warm shutdown: every part in flight is handed back at its next buffer, so nobody waits for a lease to end."""
    leave_without_redis(load_settings())
    here = started()
    if here:
        here.keeper.drain()


@signals.worker_shutdown.connect(weak=False)
def _leave(**_kwargs: Any) -> None:
    here = deps()
    here.keeper.close()
    try:
        here.fleet.leave(here.process)
    except LedgerUnavailable:
        log.warning("leave_not_recorded", process=here.process)


@signals.setup_logging.connect(weak=False)
def _logging(**_kwargs: Any) -> None:
    """Connected, so that Celery leaves logging to us."""
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)


app = create_app(load_settings())
