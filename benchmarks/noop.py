"""A Celery task that does nothing, with the settings our tasks have: what a message costs by itself."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.house import THREADS, House
from benchmarks.measure import Sample, watched
from orchestrator.dispatch import declared, make_app
from orchestrator.settings import load_settings
from tests.e2e.fleet import CHECKOUT
from tests.servers.process import ServerProcess

QUEUE, TASK = "haulage.noop", "haulage.noop"


def serve() -> None:
    """The worker: one process, as many threads as ours has."""
    app = make_app(load_settings())
    app.conf.task_queues = [declared(QUEUE)]

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def noop(*_args: object) -> None:
        """Nothing."""

    options = ["--pool=threads", f"--concurrency={THREADS}", f"--queues={QUEUE}", "--hostname=noop@bench"]
    app.worker_main(["worker", *options, "--without-mingle", "--without-gossip", "--loglevel=WARNING"])


class NoopWorker:
    """One process with as many threads as ours, on the Redis of ``house``."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self._process = ServerProcess(
            [sys.executable, "-m", "benchmarks.noop"],
            log=folder / "noop.log",
            ready=self._takes_tasks,
            env={**os.environ, **house.fleet.env},
            cwd=CHECKOUT,
            deadline_seconds=60,
        )
        self._app = make_app(house.fleet.settings)
        self._app.amqp.queues.add(declared(QUEUE))

    def _takes_tasks(self) -> bool:
        return bool(self._app.control.ping(timeout=0.5))

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()
        self._app.close()

    def drain(self, count: int) -> Sample:
        """Publish so many messages, and wait until the last one was taken."""
        self.house.settle()
        processes = [psutil.Process(self._process.pid)]
        with self.house.redis_client() as redis, watched(processes, self.house.redis_process) as sample:
            for number in range(count):
                self._app.send_task(TASK, args=("some-transfer", 1, 1, 1, number), queue=QUEUE, ignore_result=True)
            while redis.llen(QUEUE) or redis.hlen("haulage.unacked"):
                time.sleep(0.005)
        return sample


if __name__ == "__main__":
    serve()
