"""What a process says of a Redis that refuses, and of one that is away for long."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from orchestrator.connection import connect, ledger_errors, place_of
from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import Settings
from tests.servers.valkey import Valkey
from workers.outage import Outages


def write_fails(outages: Outages, settings: Settings) -> None:
    """One failure of a thread that writes."""
    try:
        with connect(settings, retry_seconds=0) as client, ledger_errors():
            client.set("a", 1)
        raise AssertionError("it was written")
    except LedgerUnavailable as exc:
        outages.failed("sweep_skipped", place_of(settings.redis), exc)


def test_a_redis_that_is_full_is_told_seldom_too_and_not_as_one_that_is_away(tmp_path: Path) -> None:
    outages = Outages()
    with Valkey(tmp_path, extra=("--maxmemory", "1")) as server, capture_logs() as said:
        for _ in range(3):
            write_fails(outages, Settings(redis_url=server.url))
        outages.back(place_of(server.url))

    assert [(each["event"], each["log_level"]) for each in said] == [
        ("sweep_skipped", "warning"),
        ("sweep_skipped", "debug"),
        ("sweep_skipped", "debug"),
    ]
    assert "OutOfMemoryError" in said[0]["error"]


def test_a_long_outage_is_told_again_with_its_length_and_its_end_once(tmp_path: Path) -> None:
    outages = Outages(remind_seconds=0)
    with Valkey(tmp_path) as server:
        server.kill()
        with capture_logs() as said:
            for _ in range(2):
                write_fails(outages, Settings(redis_url=server.url))
            for _ in range(2):
                outages.back(place_of(server.url))

    shown = [each for each in said if each["log_level"] != "debug"]
    assert [each["event"] for each in shown] == ["redis_lost", "redis_still_lost", "redis_back"]
    assert shown[1]["away_seconds"] >= 0
    assert shown[2]["server"] == place_of(server.url)
