"""``haulage worker --metrics-port``: scraped from a real worker while it moves, fails, retries and dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import fleet as hosts
from orchestrator.states import State
from tests.e2e.fleet import CHECKOUT, Fleet, WorkerProcess, eventually
from tests.e2e.shared import MIB, QUICK_RETRY, noise
from tests.servers.range_server import RangeServer
from workers.metrics import FLEET, PROCESS

DATA = noise(6 * MIB)
Samples = Mapping[str, float]


def port_of(worker: WorkerProcess) -> int:
    (served,) = worker.events("metrics_served")
    assert served["host"] == "127.0.0.1"
    return int(served["port"])


def scrape(port: int) -> dict[str, float]:
    """All samples: ``name{labels}`` to its value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def family(sample: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", sample.partition("{")[0])


def test_a_worker_counts_what_it_moves_and_what_goes_wrong(tmp_path: Path) -> None:
    with RangeServer() as web, Fleet(tmp_path) as fleet:
        fleet.env["HAULAGE_METRICS_PORT"] = "0"
        worker = fleet.worker("w", supervised=True)
        port = port_of(worker)
        eventually(lambda: scrape(port).get('haulage_fleet_workers{host="testhost"}') == 3.0, "three live processes")
        web.serve("/a.bin", DATA)
        web.fault("/a.bin", method="GET", status=503, times=1, ranged=True, after=2)
        web.serve("/b.bin", DATA)
        web.fault("/b.bin", status=403)
        options: dict[str, Any] = {"part_size": MIB, "parts_in_flight": 2, "retry": QUICK_RETRY}
        moved = fleet.client.submit(f"{web.base}/a.bin?X-Signature=canary", str(tmp_path / "a.bin"), **options)
        refused = fleet.client.submit(f"{web.base}/b.bin", str(tmp_path / "b.bin"), **options)
        paused = fleet.client.submit_paused(f"{web.base}/c.bin", str(tmp_path / "c.bin"))
        fleet.client.cancel(paused)
        fleet.wait(moved)
        fleet.wait_state(refused, State.FAILED)

        ended = 'haulage_fleet_ended_total{direction="download",state="%s"}'
        eventually(
            lambda: [scrape(port).get(ended % state) for state in ("completed", "failed", "cancelled")] == [1, 1, 1],
            "all ends are counted",
        )
        found = scrape(port)
        assert found['haulage_bytes_total{destination="file",direction="download",source="http"}'] == len(DATA)
        assert found['haulage_parts_total{direction="download",outcome="stored"}'] == 6
        assert found['haulage_parts_total{direction="download",outcome="retry"}'] == 1
        assert found['haulage_part_seconds_count{direction="download"}'] == 6
        assert sum(value for name, value in found.items() if name.startswith("haulage_retries_total{")) == 1
        assert found['haulage_failures_total{code="forbidden",step="prepare"}'] == 1
        assert found["haulage_prepare_seconds_count"] == 1
        assert found["haulage_commit_seconds_count"] == 1
        assert found["haulage_fleet_up"] == 1
        assert found['haulage_fleet_transfers{direction="download",state="active"}'] == 0
        assert found['haulage_fleet_queue_messages{queue="haulage.data"}'] == 0
        assert found['haulage_fleet_transfer_seconds_count{direction="download",state="completed"}'] == 1
        assert {family(name) for name in found} <= {*PROCESS, *FLEET}
        assert not re.search(rf"canary|{moved}|\.bin|{web.port}", "\n".join(found))


def test_of_other_hosts_only_queues_with_messages_are_told(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.env["HAULAGE_METRICS_PORT"] = "0"
        port = port_of(fleet.worker("w", pools="control", supervised=True))
        fleet.redis.client().rpush("haulage.host.far.control", "a message")

        def told() -> Samples:
            hosts.Fleet(fleet.ledger).beat(hosts.WorkerInfo("far:1:a", "far", ("control", "data"), ()))
            return scrape(port)

        eventually(lambda: told().get('haulage_fleet_workers{host="far"}') == 1, "the other host")
        found = told()

    queues = {name: value for name, value in found.items() if name.startswith("haulage_fleet_queue_messages{")}
    assert queues['haulage_fleet_queue_messages{queue="haulage.host.far.control"}'] == 1
    assert 'haulage_fleet_queue_messages{queue="haulage.host.far"}' not in queues, "series by the square of the hosts"
    assert 'haulage_fleet_stuck_threads{host="far"}' not in found
    assert queues['haulage_fleet_queue_messages{queue="haulage.data"}'] == 0
    assert found['haulage_fleet_stuck_threads{host="testhost"}'] == 0


def test_the_counts_of_a_process_that_died_stay_and_so_does_the_number_of_files(tmp_path: Path) -> None:
    with RangeServer() as web, Fleet(tmp_path) as fleet:
        fleet.env["HAULAGE_METRICS_PORT"] = "0"
        worker = fleet.worker("w", supervised=True)
        port = port_of(worker)
        url, stored = web.serve("/a.bin", DATA), 'haulage_parts_total{direction="download",outcome="stored"}'
        for round_no in (1, 2):
            fleet.wait(fleet.client.submit(url, str(tmp_path / f"{round_no}.bin"), part_size=MIB))
            assert scrape(port)[stored] == 6 * round_no
            folder = psutil.Process(worker.pid).children()[0].environ()["HAULAGE_PROCESS_METRICS"]
            files = sorted(os.listdir(folder))
            for child in psutil.Process(worker.pid).children():
                child.send_signal(signal.SIGKILL)
                child.wait(10)
            assert scrape(port)[stored] == 6 * round_no
        assert sorted(os.listdir(folder)) == files

        worker.stop()
        assert not os.path.exists(folder)


def test_the_ledger_being_away_is_a_figure_of_its_own(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.env["HAULAGE_METRICS_PORT"] = "0"
        port = port_of(fleet.worker("w", supervised=True))
        eventually(lambda: scrape(port).get("haulage_fleet_up") == 1, "the ledger is there")
        fleet.redis.kill()
        eventually(lambda: scrape(port).get("haulage_fleet_up") == 0, "the ledger is away")
        assert not any(name.startswith("haulage_fleet_transfers") for name in scrape(port))


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("import sys; sys.modules['prometheus_client'] = None", "pip install 'haulage[metrics]'"),
        ("import socket; s = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]", "in use"),
    ],
    ids=["without the extra", "the port is taken"],
)
def test_metrics_that_cannot_be_served_are_an_error_with_a_way_out(before: str, said: str) -> None:
    program = f"port = 0; {before}; from haulage.cli import main; main(['worker', '--metrics-port', str(port)])"
    env = {**os.environ, "HAULAGE_REDIS_URL": "redis://127.0.0.1:1/0"}

    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
