"""Celery's consumer, taught that a lost broker is no reason to end, and a missing right none to hurry."""

from __future__ import annotations

import time
from typing import Any

import structlog
from celery.worker import state
from celery.worker.consumer import Consumer
from redis.exceptions import NoPermissionError, RedisError

from orchestrator.connection import connect_broker
from orchestrator.settings import load_settings
from workers.rights import missing_rights

log = structlog.get_logger(__name__)

_REFUSED_SECONDS = 5.0


class PatientConsumer(Consumer):
    """Leaves the broker's address to messages that came over a connection which is lost."""

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Celery tries again at once, many times a second, where the broker answers and refuses."""
        if isinstance(exc, NoPermissionError):
            _wait_for_rights(exc)
        else:
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
        super().on_connection_error_after_connected(exc)
        transport.client = lost
        if isinstance(exc, NoPermissionError):
            _wait_for_rights(exc)


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
