"""A folder for one engine of a test, what runs in it, and an end to all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from haulage.engine import Engine, EngineStatus, attach, status
from orchestrator.client import TransferClient
from orchestrator.settings import Settings, load_settings
from tests.e2e.fleet import CHECKOUT, eventually

START_SECONDS = 60.0
"""How long a start may take on a machine that runs other tests too."""
QUICK = {"lease_seconds": 3.0, "renew_seconds": 0.5, "sweep_seconds": 0.5, "engine_linger_seconds": 60.0}


class EngineWorld:
    """``values`` are settings of the engine and of the clients."""

    def __init__(self, folder: Path, **values: Any) -> None:
        self.folder = folder
        self.values = {**QUICK, "engine_folder": folder, **values}

    @property
    def settings(self) -> Settings:
        return load_settings(**self.values)

    @property
    def environment(self) -> dict[str, str]:
        """The same settings for a process of its own."""
        mine = {f"HAULAGE_{name.upper()}": str(value) for name, value in self.values.items()}
        return {**os.environ, **mine, "PYTHONWARNINGS": "ignore"}

    def attach(self) -> Engine:
        return attach(self.settings, deadline_seconds=START_SECONDS)

    def status(self) -> EngineStatus:
        found = status(self.settings)
        assert found is not None
        return found

    @contextmanager
    def client(self) -> Iterator[TransferClient]:
        """A client of the engine, with a lifeline."""
        with self.attach() as engine, TransferClient(engine.settings) as client:
            yield client

    def client_process(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """A Python process of its own; its output is read as text."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=self.environment,
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Whatever runs for this folder: told by its command line or its working folder."""
        found = []
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                words = " ".join(each.cmdline())
                if each.pid != os.getpid() and (str(self.folder) in words or each.cwd() == str(self.folder / "data")):
                    found.append(each)
        return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    def wait_gone(self) -> None:
        eventually(lambda: self.processes() == [], "no process of the engine is left")

    def kill_all(self) -> None:
        """SIGKILL for every process at once, frozen first, so that none can act on the death of another."""
        doomed = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for each in doomed:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(number)
        psutil.wait_procs(doomed, timeout=10)


@contextmanager
def engine_world(folder: Path, **values: Any) -> Iterator[EngineWorld]:
    world = EngineWorld(folder, **values)
    try:
        yield world
    finally:
        world.kill_all()
