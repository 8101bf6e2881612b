"""What a client says and does about a Redis that does not let it in, or is not there."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.connection import connect, ledger_errors
from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import Settings
from tests.servers.process import LOOPBACK, free_port
from tests.servers.valkey import Valkey


def test_a_wrong_password_is_named_at_once_and_not_tried_again(tmp_path: Path) -> None:
    with Valkey(tmp_path, extra=("--requirepass", "right")) as server:
        url = server.url.replace("//", "//:wrong-canary@")
        began = time.monotonic()

        with (
            pytest.raises(LedgerUnavailable, match="refused the user name or password") as refused,
            connect(Settings(redis_url=url, redis_retry_seconds=60)) as client,
            ledger_errors(),
        ):
            client.ping()

        assert time.monotonic() - began < 30  # half of what it may retry for
        assert "canary" not in str(refused.value)


@pytest.fixture
def hangs_up() -> Iterator[str]:
    """A server that closes each connection before it says a word."""

    def serve() -> None:
        for _ in range(2):
            listener.accept()[0].close()

    with socket.create_server((LOOPBACK, 0)) as listener, ExitStack() as at_end:
        at_end.callback(lambda: socket.create_connection(listener.getsockname()).close())
        Thread(target=serve, daemon=True).start()
        yield f"{LOOPBACK}:{listener.getsockname()[1]}"


def complaint(url: str) -> str:
    """Of one try, which waits for half a second."""
    with (
        pytest.raises(LedgerUnavailable) as caught,
        connect(Settings(redis_url=url), retry_seconds=0, answer_seconds=0.5) as client,
        ledger_errors(),
    ):
        client.ping()
    return str(caught.value)


def test_what_happened_is_said_in_words_and_never_with_the_password(tmp_path: Path, hangs_up: str) -> None:
    nobody = f"{LOOPBACK}:{free_port()}"

    said = {
        "refused": complaint(f"redis://:canary@{nobody}/0"),
        "unknown": complaint("redis://:canary@redis.invalid:6379/0"),
        "missing": complaint(f"unix://:canary@{tmp_path}/redis.sock"),
        "closed": complaint(f"redis://:canary@{hangs_up}/0"),
    }

    assert said == {
        "refused": f"Redis at {nobody} did not answer: connection refused",
        "unknown": "Redis at redis.invalid:6379 did not answer: no such host",
        "missing": f"Redis at {tmp_path}/redis.sock did not answer: no such socket",
        "closed": f"Redis at {hangs_up} did not answer: it closed the connection",
    }


def test_a_server_that_is_silent_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server, server.frozen():
        assert complaint(server.url) == f"Redis at {LOOPBACK}:{server.port} did not answer: timed out"
