"""``haulage worker``: starts the processes of this machine's worker, restarts those that die, and drains on SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import structlog

from orchestrator.signal_flag import SignalFlag

log = structlog.get_logger(__name__)

_HEALTHY_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep alive."""

    name: str
    pools: tuple[str, ...]
    threads: int


class Process(Protocol):
    """What the supervisor needs of a child: a ``subprocess.Popen`` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


@dataclass(slots=True)
class _Child:
    role: Role
    process: Process | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = field(default=0.0)


def plan_roles(pools: tuple[str, ...], processes: int, threads: int) -> list[Role]:
    """Control and express get processes of their own, so that neither ever waits behind a busy lane."""
    roles = [Role(pool, (pool,), 4) for pool in ("control", "express") if pool in pools]
    rest = tuple(pool for pool in pools if pool not in ("control", "express"))
    if rest:
        roles += [Role(f"data{number}", rest, threads) for number in range(1, processes + 1)]
    return roles


class Supervisor:
    """Keeps one process per role. ``run`` blocks until SIGTERM or SIGINT, then drains for ``grace_seconds``.

    A program with a loop of its own calls ``tend`` from it, and ``drain`` at the end.
    """

    def __init__(
        self, roles: list[Role], *, grace_seconds: float = 60.0, start: Callable[[Role], Process] | None = None
    ) -> None:
        self._children = [_Child(role) for role in roles]
        self._grace = grace_seconds
        self._start = start or start_process
        self._stop = SignalFlag()
        self._kill = SignalFlag()

    def run(self) -> int:
        """Exit code 0 after a clean drain, 1 if something had to be killed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        while not self._stop.wait(0.2):
            self.tend()
        return self.drain()

    def tend(self) -> None:
        """Start what is missing. Never blocks."""
        for child in self._children:
            self._keep(child)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the children that were started, by the name of their role."""
        return {child.role.name: child.process.pid for child in self._children if child.process}

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            self._kill.set()
        self._stop.set()

    def _keep(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            child.failures = 0 if now - child.started > _HEALTHY_SECONDS else child.failures + 1
            wait = min(0.1 * 2**child.failures, _LONGEST_WAIT_SECONDS)
            child.process, child.not_before = None, now + wait
            log.warning("process_ended", role=child.role.name, exit_code=code, restart_in_seconds=round(wait, 1))
        if now >= child.not_before:
            child.process, child.started = self._start(child.role), now

    def drain(self) -> int:
        """Ask all to hand back and leave, wait, kill those that do not. 0 if none had to be killed."""
        running = [child.process for child in self._children if child.process and child.process.poll() is None]
        log.info("draining", processes=len(running), grace_seconds=self._grace)
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while any(process.poll() is None for process in running):
            if time.monotonic() > deadline or self._kill.wait(0.05):
                break
        late = [process for process in running if process.poll() is None]
        for process in late:
            process.kill()
            process.wait()
        log.info("stopped", killed=len(late))
        return 1 if late else 0


def start_process(role: Role) -> subprocess.Popen[bytes]:
    """A fresh Python process for the role."""
    command = [sys.executable, "-m", "workers.process", "--pools", ",".join(role.pools)]
    command += ["--threads", str(role.threads), "--name", role.name, "--parent", str(os.getpid())]
    # A group of its own: Ctrl-C reaches the supervisor alone, which then drains.
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL
    )  # Celery's banner; logs go to stderr
