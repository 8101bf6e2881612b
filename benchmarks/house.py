"""Our side: a Valkey, a worker as ``haulage worker`` starts it, and a client in this process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import redis

from benchmarks.measure import Sample, cpu_seconds, watched
from orchestrator.client import Transfer
from tests.e2e.fleet import CHECKOUT, Fleet
from tests.servers.process import ServerProcess

THREADS = 8
QUANTUM = "haulage, quantum 0.1 s"
SHORT_QUANTUM: Mapping[str, float] = {"quantum_seconds": 0.1, "quantum_above_parts": 0}
"""A lane goes on for 0.1 s before it queues again: what a task of its own for each part costs is the difference."""
_IDLE_SHARE = 0.25
_SETTLE_SECONDS = 5.0


class House:
    """``processes`` None: one unsupervised process that serves all pools; else ``haulage worker --processes N``."""

    def __init__(self, folder: Path, *, processes: int | None = None, **settings: Any) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        defaults = {"lease_seconds": 10, "renew_seconds": 1, "sweep_seconds": 1}
        self.fleet = Fleet(folder, host="bench", **{**defaults, **settings})
        self.start_sample = Sample()
        self._count = processes
        self._worker: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.fleet.__enter__()
        try:
            self._start_worker()
        except BaseException:
            self.fleet.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker:
            self._worker.stop()
        self.fleet.__exit__(kind, error, trace)

    def _start_worker(self) -> None:
        began = time.monotonic()
        if self._count is None:
            argv = [sys.executable, "-m", "workers.process", "--pools", "control,data,express", "--name", "bench"]
            argv += ["--threads", str(THREADS), "--parent", str(os.getpid())]
            expected = 1
        else:
            argv = [sys.executable, "-m", "haulage", "worker", "--processes", str(self._count)]
            argv += ["--threads", str(THREADS)]
            expected = 2 + self._count
        self.log_file = self._folder / "worker.log"
        self._worker = ServerProcess(
            argv,
            log=self.log_file,
            ready=lambda: self.log_file.read_text("utf-8", "replace").count(" ready.") >= expected,
            env={**os.environ, **self.fleet.env},
            cwd=CHECKOUT,
            deadline_seconds=60,
        )
        self._worker.start()
        self.start_sample.wall_seconds = time.monotonic() - began
        self.start_sample.cpu_seconds = sum(cpu_seconds(each) for each in self.processes)

    @property
    def processes(self) -> list[psutil.Process]:
        """The worker with its children."""
        assert self._worker is not None, "not started"
        root = psutil.Process(self._worker.pid)
        return [root, *root.children(recursive=True)]

    @property
    def redis_process(self) -> psutil.Process:
        return psutil.Process(self.fleet.redis.pid)

    @contextmanager
    def redis_client(self) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(self.fleet.redis.url) as client:
            yield client

    def transfer(self, source: str, destination: str, **options: Any) -> tuple[Sample, Transfer]:
        """Move one object. Wall time is from the submit to ``completed``, by the ledger's clock."""
        self.settle()
        with watched(self.processes, self.redis_process) as sample:
            transfer_id = self.fleet.client.submit(source, destination, **options)
            transfer = self.fleet.client.wait(transfer_id, timeout_seconds=300)
            assert transfer.ended_at is not None
            sample.wall_seconds = transfer.ended_at - transfer.created_at
        return sample, transfer

    def settle(self) -> None:
        """Wait until nothing of the last run goes on: it would be billed to the next."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = sum(map(cpu_seconds, self.processes))
            time.sleep(0.2)
            if sum(map(cpu_seconds, self.processes)) - before < _IDLE_SHARE * 0.2:
                return
