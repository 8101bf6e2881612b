"""A whole Haulage for a test: a real Valkey, worker processes that can be killed, and a client."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from orchestrator.client import Transfer, TransferClient
from orchestrator.connection import connect
from orchestrator.errors import WaitTimeout
from orchestrator.events import read_events
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings
from orchestrator.states import State
from tests.e2e.report import ledger_view, log_tail
from tests.servers.process import ServerProcess, wait_until
from tests.servers.valkey import Valkey

T = TypeVar("T")
CHECKOUT = Path(__file__).parents[2]
LEASE_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
"""How long to wait for what has to come: a machine that runs other tests too may be slow."""


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait with patience until ``condition`` holds."""
    wait_until(condition, what, deadline_seconds=PATIENCE_SECONDS)


class WorkerProcess(ServerProcess):
    """One Celery process, or with ``supervised`` the whole of ``haulage worker``."""

    def __init__(
        self,
        folder: Path,
        name: str,
        env: Mapping[str, str],
        *,
        pools: str,
        threads: int,
        supervised: bool,
        ready: Callable[[], bool],
        module: str = "workers.process",
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        if supervised:
            argv = [sys.executable, "-m", "haulage", "worker", "--pools", pools, "--processes", "1"]
            argv += ["--threads", str(threads), "--grace", "20"]
        else:
            argv = [sys.executable, "-m", module, "--pools", pools, "--threads", str(threads)]
            argv += ["--name", name, "--parent", str(os.getpid())]
        super().__init__(
            argv,
            log=self.log_file,
            ready=ready,
            env={**os.environ, **env},
            cwd=CHECKOUT,
            deadline_seconds=PATIENCE_SECONDS,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log entries with this event name, such as ``part_stored``."""
        whole, _, _ = self.log_file.read_text("utf-8", "replace").rpartition("\n")  # the last may be half written
        lines = whole.splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in entries if each.get("event") == name]

    def wait_ready(self) -> Self:
        """Wait until it consumes: for one that was started with ``wait=False``."""
        eventually(lambda: "ready." in self.log_file.read_text("utf-8", "replace"), f"{self.name} is ready")
        return self

    @property
    def pids(self) -> set[int]:
        """The process and its children: whose leases are this worker's."""
        return {self.pid, *(each.pid for each in psutil.Process(self.pid).children(recursive=True))}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        os.kill(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL for the process and all of its children, as if the machine had gone."""
        for each in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
            each.send_signal(signal.SIGKILL)
        self.kill()


class Fleet:
    """``with Fleet(tmp_path) as fleet: fleet.worker("w1"); fleet.client.submit(...)``.

    ``settings`` are HAULAGE_* variables without the prefix, for clients and workers alike. Leases last 3 s unless told.
    """

    def __init__(self, folder: Path, *, host: str = "testhost", **settings: object) -> None:
        self.folder = folder
        self.redis = Valkey(folder / "redis")
        values = {"LEASE_SECONDS": LEASE_SECONDS, "RENEW_SECONDS": 0.5, "SWEEP_SECONDS": 0.5, "HOST": host, **settings}
        self.env = {f"HAULAGE_{name.upper()}": str(value) for name, value in values.items()}
        self.env |= {"HAULAGE_REDIS_URL": self.redis.url, "PYTHONWARNINGS": "ignore"}
        self.workers: list[WorkerProcess] = []
        self._clients: list[TransferClient] = []

    def __enter__(self) -> Self:
        self.redis.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        for worker in self.workers:
            worker.kill()
        self.redis.kill()

    @property
    def environment(self) -> dict[str, str]:
        """For a process of its own, such as the command line."""
        return {**os.environ, **self.env}

    @property
    def settings(self) -> Settings:
        values: dict[str, Any] = {name.removeprefix("HAULAGE_").lower(): value for name, value in self.env.items()}
        return Settings(**values)

    @property
    def client(self) -> TransferClient:
        if not self._clients:
            self._clients.append(TransferClient(self.settings))
        return self._clients[0]

    @property
    def ledger(self) -> Ledger:
        """The ledger, with a connection of its own."""
        return Ledger(connect(self.settings), self.settings)

    def worker(
        self,
        name: str,
        *,
        pools: str = "control,data,express",
        threads: int = 4,
        supervised: bool = False,
        wait: bool = True,
        module: str = "workers.process",
        **env: str,
    ) -> WorkerProcess:
        """Start a worker and wait until it consumes. ``env`` are more HAULAGE_* variables, without the prefix.

        ``module`` is run in place of a worker process, with the same arguments.
        """
        more = {f"HAULAGE_{key.upper()}": value for key, value in env.items()}

        def ready() -> bool:
            return not wait or "ready." in process.log_file.read_text("utf-8", "replace")

        process = WorkerProcess(
            self.folder,
            name,
            {**self.env, **more},
            pools=pools,
            threads=threads,
            supervised=supervised,
            ready=ready,
            module=module,
        )
        process.start()
        self.workers.append(process)
        return process

    def wait(self, transfer_id: str, *, seconds: float = PATIENCE_SECONDS) -> Transfer:
        """Wait for a completed transfer. One that does not end tells of its ledger, queues and workers."""
        try:
            return self.client.wait(transfer_id, timeout_seconds=seconds)
        except WaitTimeout as exc:
            raise WaitTimeout(f"{exc}\n{self.report(transfer_id)}") from None

    def report(self, transfer_id: str) -> str:
        """What the ledger, the queues and the workers' logs say now."""
        lines = ledger_view(self.redis.client(), self.ledger.prefix(transfer_id), transfer_id)
        lines.append(f"messages {self.queued_messages()}")
        for each in self.workers:
            lines += log_tail(each.name, each.log_file.read_text("utf-8", "replace"), alive=each.alive)
        return "\n".join(lines)

    def wait_state(self, transfer_id: str, *states: State, seconds: float = PATIENCE_SECONDS) -> Transfer:
        """Wait until the transfer is in one of ``states``."""
        wait_until(
            lambda: self.client.get(transfer_id).state in states,
            f"{transfer_id} in {', '.join(states)}",
            deadline_seconds=seconds,
        )
        return self.client.get(transfer_id)

    def live_leases(self, transfer_id: str) -> dict[str, tuple[str, int]]:
        """Parts that are leased now: member -> (process, received bytes)."""
        return self.ledger.in_flight(transfer_id)

    def wait_leased(
        self,
        transfer_id: str,
        *,
        by: int | Collection[int] | None = None,
        parts: int = 1,
        seconds: float = PATIENCE_SECONDS,
        seen_moving: bool = True,
    ) -> dict[str, Any]:
        """Wait until ``parts`` parts are leased and bytes move, in the process with pid ``by`` (or one of them).

        ``seen_moving=False``: where no byte passes the worker, the lease alone.
        """
        found: dict[str, Any] = {}
        pids = None if by is None else {by} if isinstance(by, int) else set(by)

        def moving() -> bool:
            found.clear()
            for member, (process, received) in self.live_leases(transfer_id).items():
                mine = pids is None or int(process.split(":")[1]) in pids
                if mine and member.isdigit() and (received > 0 or not seen_moving):
                    found[member] = process
            return len(found) >= parts

        wait_until(moving, f"{parts} live leases of {transfer_id} with bytes moving", deadline_seconds=seconds)
        return found

    def kinds(self, transfer_id: str) -> list[str]:
        """Kinds of the transfer's events, oldest first."""
        return [each.kind for each in read_events(self.ledger, transfer_id)]

    def queued_messages(self) -> dict[str, int]:
        """Messages that wait in our queues; ``unacked``: delivered, and not acknowledged yet."""
        redis = self.redis.client()
        counts = {key.decode(): int(redis.llen(key)) for key in redis.scan_iter("haulage.*", _type="list")}
        counts["unacked"] = int(redis.hlen("haulage.unacked"))
        return {name: count for name, count in counts.items() if count}

    def assert_nothing_is_left(self, transfer_id: str, *, deliveries_lost: bool = False) -> None:
        """After the end: one completion, no lease, no ticket, no message, no open upload, nothing to look at.

        What a killed worker had fetched, or one that lost its Redis, stays unacknowledged until the visibility
        timeout, an hour, has passed.
        """
        kinds = self.kinds(transfer_id)
        assert kinds.count("completed") == 1, kinds
        assert kinds[-1] == "completed", kinds
        assert self.live_leases(transfer_id) == {}
        assert self.ledger.sessions() == {}
        redis, prefix = self.redis.client(), self.ledger.prefix(transfer_id)
        for kind in ("l", "o", "k", "b", "v"):
            assert not redis.exists(f"{prefix}{kind}:{transfer_id}"), kind
        assert redis.zscore(f"{prefix}due", transfer_id) is None
        # Stale copies may still be on their way: each is taken, found useless, and dropped.
        allowed = {"unacked"} if deliveries_lost else set()
        eventually(lambda: self.queued_messages().keys() <= allowed, f"empty queues, not {self.queued_messages()}")
        mortal = [key.decode() for key in redis.scan_iter("celery-taskset-meta-*") if redis.ttl(key) < 0]
        assert mortal == [], "chord keys without a lifetime"
