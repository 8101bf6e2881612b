"""Celery's consumer, taught that a lost broker is no reason to end or to talk, and a missing right none to hurry."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import structlog
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.consumer.consumer import CONNECTION_ERROR, CONNECTION_RETRY
from redis.exceptions import NoPermissionError, RedisError

from orchestrator.connection import broker_place, connect_broker, ledger_errors
from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import load_settings
from workers.bootstrap import deps
from workers.rights import missing_rights

log = structlog.get_logger(__name__)

_REFUSED_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries to connect: Celery's own 30 s would leave a fleet idle after a short outage."""

# About a default that our settings name.
warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="workers.consumer")


class _ToldAlready(logging.Filter):
    """Celery's own lines about a lost broker go to DEBUG: one for each try of each process would fill a disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == CONNECTION_ERROR or CONNECTION_RETRY in (record.args or ()):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        return True


logging.getLogger("celery.worker.consumer.consumer").addFilter(_ToldAlready())


class PatientConsumer(Consumer):
    """Leaves the broker's address to messages that came over a connection which is lost."""

    def ensure_connected(self, conn: Any) -> Any:
        """Try until the broker answers. A shutdown ends it within a second."""
        conn.ensure_connection(
            lambda exc, _pause: _lost(exc), interval_max=_LONGEST_PAUSE_SECONDS, callback=state.maybe_shutdown
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        deps().keeper.outages.back(broker_place(load_settings()))
        return conn

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Celery tries again at once, many times a second, where the broker answers and refuses."""
        if isinstance(exc, NoPermissionError):
            _wait_for_rights(exc)
        else:
            _lost(exc)
            super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the connection, as Celery does: that first forgets the address, then needs it.

        Kombu asks for it when it closes the channel of a message that is not acknowledged, and when the task of such
        a message acknowledges later. Without it, that is an AttributeError in the main thread: the process ends.
        """
        lost: Any = self.connection
        transport = lost.transport
        collect = lost.collect

        def collect_and_remember(**options: Any) -> None:
            try:
                collect(**options)
            finally:
                transport.client = lost

        lost.collect = collect_and_remember
        if not isinstance(exc, NoPermissionError):
            _lost(exc)
        super().on_connection_error_after_connected(exc)
        transport.client = lost
        if isinstance(exc, NoPermissionError):
            _wait_for_rights(exc)


def _lost(exc: Exception) -> None:
    server, outages = broker_place(load_settings()), deps().keeper.outages
    below = exc.__cause__ if isinstance(exc.__cause__, RedisError) else exc
    try:
        with ledger_errors(server):
            raise below
    except LedgerUnavailable as named:
        outages.failed("broker_lost", server, named)
    except Exception as other:
        outages.lost("broker_lost", server, type(other).__name__)


def _wait_for_rights(exc: Exception) -> None:
    """Say which right is missing, and give somebody time to grant it. A shutdown ends the wait."""
    try:
        with connect_broker(load_settings(), retry_seconds=0) as broker:
            missing = missing_rights(broker)
    except RedisError:
        missing = []
    log.error(
        "broker_refused",
        missing=missing or str(exc)[:200],
        try_this="give the user the rights in deploy/redis/users.acl",
        next_try_in_seconds=_REFUSED_SECONDS,
    )
    deadline = time.monotonic() + _REFUSED_SECONDS
    while time.monotonic() < deadline and state.should_stop is None and state.should_terminate is None:
        time.sleep(0.1)
