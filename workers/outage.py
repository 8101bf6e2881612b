"""What a worker process says of a Redis that is away: when it goes, seldom while it is away, when it is back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import structlog

from orchestrator.errors import LedgerUnavailable

log = structlog.get_logger(__name__)

_REMIND_SECONDS = 30.0


@dataclass(slots=True)
class _Outage:
    since: float
    told: float


class Outages:
    """Shared by all threads of a process: the first that notices tells, and what each of them met goes to DEBUG."""

    def __init__(self, *, remind_seconds: float = _REMIND_SECONDS) -> None:
        self._remind = remind_seconds
        self._lock = threading.Lock()
        self._away: dict[str, _Outage] = {}
        self._told: dict[str, float] = {}

    def failed(self, event: str, server: str, exc: LedgerUnavailable) -> None:
        """``event`` could not be done because ``server`` (``host:port``) does not answer, or refused a move."""
        if exc.__cause__ is None:
            self.lost(event, server, str(exc))
        elif self._is_time(event):  # it answers: this is a fault of its own, such as a full memory
            log.warning(event, error=str(exc))
        else:
            log.debug(event, error=str(exc))

    def lost(self, event: str, server: str, error: str) -> None:
        """``server`` does not answer, or lets nobody in. ``error`` holds no secret."""
        now = time.monotonic()
        with self._lock:
            is_new = server not in self._away
            outage = self._away.setdefault(server, _Outage(now, now))
            is_due = now - outage.told >= self._remind
            if is_due:
                outage.told = now
        log.debug(event, error=error)
        if is_new:
            log.warning("redis_lost", server=server, error=error)
        elif is_due:
            log.warning("redis_still_lost", server=server, error=error, away_seconds=round(now - outage.since, 1))

    def back(self, server: str) -> None:
        """``server`` answered. Cheap: called after everything that went well."""
        if server not in self._away:
            return
        with self._lock:
            outage = self._away.pop(server, None)
        if outage:
            log.info("redis_back", server=server, away_seconds=round(time.monotonic() - outage.since, 1))

    def seldom(self, event: str, **fields: Any) -> None:
        """A warning that comes again and again: told now and then, else at DEBUG."""
        (log.warning if self._is_time(event) else log.debug)(event, **fields)

    def _is_time(self, event: str) -> bool:
        now = time.monotonic()
        with self._lock:
            is_time = now - self._told.get(event, float("-inf")) >= self._remind
            if is_time:
                self._told[event] = now
        return is_time
