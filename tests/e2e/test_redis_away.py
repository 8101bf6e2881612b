"""A worker whose Redis is away: it says so at once and then seldom, leaves soon when told to, and goes on by itself."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, WorkerProcess, eventually
from tests.e2e.shared import MIB
from tests.servers.process import free_port
from tests.servers.range_server import Pattern, RangeServer
from tests.servers.valkey import Valkey

PROCESSES = 3
"""Of a supervised worker with one for data."""
LEAVES_SECONDS = 12.0
"""Measured 2 to 4 s; a busy machine is allowed more. It was 25 to 50 s when each step tried for itself."""
TRIES = ("leases_not_renewed", "sweep_skipped", "notices_wait", "stop_channel_lost", "broker_lost")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Every failure comes at once, so that a few seconds hold as many of them as many minutes do."""
    with Fleet(tmp_path, redis_retry_seconds=0) as fleet:
        yield fleet


def lines(worker: WorkerProcess) -> list[dict[str, Any]]:
    whole, _, _ = worker.log_file.read_text("utf-8", "replace").rpartition("\n")  # the last may be half written
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def ended(worker: WorkerProcess) -> Callable[[], bool]:
    return lambda: not worker.alive


def test_an_outage_is_told_when_it_begins_and_when_it_ends_and_its_details_only_to_debug(fleet: Fleet) -> None:
    worker = fleet.worker("w", supervised=True, wait=False, log_level="DEBUG")
    eventually(lambda: worker.log_file.read_text().count("ready.") == PROCESSES, "all processes consume")
    before = len(lines(worker))

    fleet.redis.kill()
    eventually(
        lambda: min(Counter(each["event"] for each in lines(worker)[before:])[name] for name in TRIES) >= 12,
        "each thread of each process has failed some times",
    )
    fleet.redis.restart()
    eventually(lambda: len(worker.events("redis_back")) == PROCESSES, "all processes are back")

    shown = [each for each in lines(worker)[before:] if each["level"] not in ("debug", "info")]
    assert Counter(each["event"] for each in shown) == {"redis_lost": PROCESSES}
    assert all(each["error"].startswith(f"Redis at 127.0.0.1:{fleet.redis.port} did not answer: ") for each in shown)
    assert all(each["away_seconds"] > 0 for each in worker.events("redis_back"))


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_busy_worker_that_is_told_to_stop_does_not_wait_for_a_redis_that_is_away(
    fleet: Fleet, tmp_path: Path, how: str
) -> None:
    with RangeServer(throttle=200_000) as web:
        web.serve("/a.bin", Pattern(16 * MIB))
        worker = fleet.worker("w", supervised=True, redis_retry_seconds="10")
        transfer_id = fleet.client.submit(f"{web.base}/a.bin", tmp_path / "a.bin", part_size=MIB, parts_in_flight=4)
        fleet.wait_leased(transfer_id)
        if how == "killed":
            fleet.redis.kill()

        with fleet.redis.frozen() if how == "frozen" else nullcontext():
            began = time.monotonic()
            worker.signal(signal.SIGTERM)
            eventually(ended(worker), "the worker has left")
            took = time.monotonic() - began

        assert took < LEAVES_SECONDS
        assert worker.events("stopped")[-1]["killed"] == 0
        assert len(worker.events("left_without_redis")) >= 1

        web.throttle = None
        if how == "killed":
            fleet.redis.restart()
        fleet.worker("next")
        fleet.wait(transfer_id)
        assert (tmp_path / "a.bin").read_bytes() == Pattern(16 * MIB).read(0, 16 * MIB)


def test_a_worker_that_starts_without_its_redis_says_first_that_it_waits_for_it(fleet: Fleet) -> None:
    nobody = f"127.0.0.1:{free_port()}"

    worker = fleet.worker("w", supervised=True, wait=False, redis_url=f"redis://:canary@{nobody}/0")
    eventually(lambda: worker.log_file.read_text().count("\n") >= 2, "two lines")

    first, second, *_ = worker.log_file.read_text().splitlines()
    assert first == f"serving pools control, data, express on redis {nobody}"
    assert second == f"Redis at {nobody} did not answer: connection refused; waiting for it"
    assert "canary" not in worker.log_file.read_text()


def test_a_worker_with_a_wrong_password_says_so_first(fleet: Fleet, tmp_path: Path) -> None:
    with Valkey(tmp_path / "closed", extra=("--requirepass", "right")) as closed:
        url = closed.url.replace("//", "//:canary@")

        worker = fleet.worker("w", supervised=True, wait=False, redis_url=url)
        eventually(lambda: worker.log_file.read_text().count("\n") >= 2, "two lines")

        second = worker.log_file.read_text().splitlines()[1]
        assert second == f"Redis at 127.0.0.1:{closed.port} refused the user name or password; waiting for it"
        assert "canary" not in worker.log_file.read_text()
