"""What a client does about a Redis that does not let it in."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.connection import connect, ledger_errors
from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import Settings
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
