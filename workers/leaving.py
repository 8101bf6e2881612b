"""Ends a draining process whose Redis is away: nothing can be handed back then, and leases run out."""

from __future__ import annotations

import os
import threading
import time

import structlog

from orchestrator.connection import connect, ledger_errors, place_of
from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import Settings

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS = 2.0
"""A Redis that does not answer for so long is away. Longer than a pause of its disk, shorter than any grace."""
_ASK_EVERY_SECONDS = 0.25


def leave_without_redis(settings: Settings) -> None:
    """Watch from now on, in a thread of its own; called once the process drains.

    Every step of a drain asks Redis and tries again for a while: in sequence that is most of a minute.
    """
    threading.Thread(target=_watch, args=(settings,), name="haulage-leaving", daemon=True).start()


def _watch(settings: Settings) -> None:
    heard = time.monotonic()
    error = ""
    with connect(settings, retry_seconds=0, answer_seconds=_PATIENCE_SECONDS / 2) as client:
        while time.monotonic() - heard < _PATIENCE_SECONDS:
            try:
                with ledger_errors():
                    client.ping()
                heard = time.monotonic()
            except LedgerUnavailable as exc:
                error = str(exc)
            time.sleep(_ASK_EVERY_SECONDS)
    log.warning("left_without_redis", server=place_of(settings.redis), error=error)
    os._exit(0)
