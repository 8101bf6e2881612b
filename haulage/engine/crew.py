"""The engine's workers: made once everything they need is imported, then forked from this process."""

from __future__ import annotations

import os
from collections.abc import Callable

import celery.apps.worker
import celery.concurrency.thread
import celery.worker.autoscale
import celery.worker.components
import celery.worker.consumer
import celery.worker.strategy  # noqa: F401 - these and the next: forked workers have them then

import workers.app  # noqa: F401
from haulage.engine.forks import can_fork, fork_worker
from orchestrator.connection import connect
from orchestrator.errors import HaulageError
from orchestrator.fleet import Fleet
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings, load_settings
from workers.logs import configure_logs
from workers.supervisor import Process, Role, Supervisor, plan_roles, start_process

_DRAIN_SECONDS = 20.0
_THREADS = 8
_POOLS = ("control", "data", "express")
"""Served whatever the settings say of a fleet's worker: nobody else would."""


class Crew:
    """A supervisor and its settings. ``umask`` is the user's, ``let_go`` closes in a child what is the engine's."""

    def __init__(self, umask: int, let_go: Callable[[], None]) -> None:
        self.settings: Settings = load_settings()
        self._umask = umask
        self._let_go = let_go
        configure_logs(self.settings.log_level, self.settings.log_format)
        pools = tuple(dict.fromkeys((*_POOLS, *self.settings.pools)))
        roles = plan_roles(pools, self.settings.engine_processes, _THREADS)
        self._supervisor = Supervisor(roles, grace_seconds=_DRAIN_SECONDS, start=self._start)

    def tend(self) -> None:
        """Start what is missing."""
        self._supervisor.tend()

    def drain(self) -> None:
        """Parts in flight are handed back, then all leave."""
        self._supervisor.drain()

    @property
    def pids(self) -> list[int]:
        return sorted(self._supervisor.pids.values())

    def is_ready(self) -> bool:
        """Every process was seen: they say so just before they take work."""
        try:
            with connect(self.settings, retry_seconds=0) as client:
                seen = {int(each.process.split(":")[1]) for each in Fleet(Ledger(client, self.settings)).workers()}
        except HaulageError:
            return False
        return seen >= set(self.pids)

    def _start(self, role: Role) -> Process:
        if can_fork():
            return fork_worker(role, umask=self._umask, let_go=self._let_go)
        before = os.umask(self._umask)
        try:
            return start_process(role)
        finally:
            os.umask(before)
