"""What ``haulage doctor`` and ``haulage profiles ls`` say of the workers, on a fleet that runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from haulage.doctor import fleet as checks
from orchestrator.connection import connect
from orchestrator.fleet import Fleet as Heartbeats
from orchestrator.fleet import WorkerInfo
from orchestrator.ledger import Ledger
from tests.doctor.ask import Answer, doctor, haulage
from tests.e2e.fleet import Fleet, eventually
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), profile_store__region="here", profile_store__bucket="b") as running:
        running.worker("all", threads=2)
        yield running


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as running:
        yield running


def look(fleet: Fleet) -> Answer:
    return doctor(fleet.env, "--only", "fleet")


def test_a_fleet_at_work_has_nothing_to_mend(fleet: Fleet) -> None:
    answer = look(fleet)

    assert answer.bad() == set()
    assert answer.code == 0
    assert "control 1, data 1, express 1" in answer.checks["pools"]["message"]


def test_a_heartbeat_tells_how_far_the_clock_of_its_machine_is_off(fleet: Fleet) -> None:
    (worker,) = Heartbeats(fleet.ledger).workers()

    assert abs(worker.clock_ahead_seconds) < 2


def test_transfers_that_wait_while_nobody_serves_their_queue_are_a_failure(empty: Fleet, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    for name in "xy":
        empty.client.submit(str(tmp_path / "a"), str(tmp_path / name))

    answer = look(empty)

    assert answer.code == 1
    assert answer.checks["pools"]["try_this"] == "start one: haulage worker"
    assert "haulage.host.testhost.control 2" in answer.checks["queues"]["message"]
    assert "HAULAGE_HOST=testhost" in answer.checks["queues"]["try_this"]


def test_what_waits_for_a_slot_is_found_with_its_age(tmp_path: Path) -> None:
    with Fleet(tmp_path, upload_slots=1, download_slots=1, copy_slots=1) as small:
        (tmp_path / "a").write_bytes(b"a")
        for name in "xy":
            small.client.submit(str(tmp_path / "a"), str(tmp_path / name))
        waited = small.ledger.oldest_queued_seconds()
        answer = look(small)

    assert waited is not None
    assert 0 <= waited < 60
    assert "the oldest transfer in the queue waits for" in answer.checks["oldest_queued"]["message"]
    assert checks.oldest_queued(3600).status == "warn"


def test_without_a_control_worker_nothing_begins_and_that_is_a_failure(empty: Fleet) -> None:
    empty.worker("data", pools="data,express", threads=2)

    answer = look(empty)

    assert answer.bad() == {"pools"}
    assert answer.checks["pools"]["status"] == "fail"
    assert "--pools control" in answer.checks["pools"]["try_this"]


def test_a_process_that_hangs_is_named(empty: Fleet) -> None:
    worker = empty.worker("frozen", threads=2)

    with worker.frozen():
        eventually(lambda: "heartbeats" in look(empty).bad(), "a warning of the silent process")
        answer = look(empty)

    assert answer.checks["heartbeats"]["status"] == "warn"
    assert f"testhost:{worker.pid}" in answer.checks["heartbeats"]["message"]


def test_the_probe_of_a_worker_asks_for_the_processes_of_its_own_machine(fleet: Fleet) -> None:
    here = doctor(fleet.env, "--only", "worker")
    elsewhere = doctor({**fleet.env, "HAULAGE_HOST": "elsewhere"}, "--only", "worker")
    more = doctor({**fleet.env, "HAULAGE_POOLS": "data,nightly"}, "--only", "worker")

    assert (here.code, elsewhere.code, more.code) == (0, 1, 1)
    assert here.checks.keys() == {"worker"}
    assert "nightly" in more.checks["worker"]["message"]


def test_a_redis_that_is_away_is_no_reason_to_restart_a_worker() -> None:
    answer = doctor({"HAULAGE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}, "--only", "worker")

    assert answer.code == 0
    assert answer.checks["worker"]["status"] == "warn"


def test_mixed_versions_stuck_threads_and_wrong_clocks_are_named(empty: Fleet) -> None:
    def process(name: str, host: str, version: str, *, stuck: int = 0, ahead: float = 0.0) -> WorkerInfo:
        return WorkerInfo(name, host, ("control", "data", "express"), (), version, stuck, ahead)

    with connect(empty.settings) as client:
        beats = Heartbeats(Ledger(client, empty.settings))
        beats.beat(process("one:1:a", "one", "0.1.0"))
        beats.beat(process("two:1:b", "two", "0.0.9", stuck=3))
    answer = look(empty)
    far = checks.clocks([process("x:1:a", "x", "1", ahead=-40.0), process("y:1:a", "y", "1", ahead=900.0)])

    assert answer.bad() == {"versions", "stuck_threads"}
    assert "0.0.9 on two" in answer.checks["versions"]["message"]
    assert "two:1:b has 3" in answer.checks["stuck_threads"]["message"]
    assert far.status == "fail"
    assert "x by -40 s, y by +900 s" in far.message


def test_uploads_that_are_open_for_days_are_named(empty: Fleet) -> None:
    session = {"destination": "s3://b/k", "upload": "u", "opened_at": int(time.time()) - 2 * 86_400}
    empty.redis.client().hset("hl:{s0}:sessions", "s0-old", json.dumps(session))

    answer = look(empty)

    assert answer.checks["open_sessions"]["status"] == "warn"
    assert "s0-old" in answer.checks["open_sessions"]["message"]


def test_profiles_are_listed_with_the_names_of_their_keys_and_the_hosts_that_have_them(fleet: Fleet) -> None:
    here = {**fleet.env, "HAULAGE_PROFILE_MINE__SECRET_KEY": "hunter2"}
    rows = {row["name"]: row for row in haulage(here, "profiles", "ls", "--json").rows}
    shown = haulage(here, "profiles", "ls")

    assert rows == {
        "mine": {"name": "mine", "keys": ["secret_key"], "hosts": []},
        "store": {"name": "store", "keys": ["bucket", "region"], "hosts": ["testhost"]},
    }
    assert "hunter2" not in shown.out
    assert "workers of testhost have it" in shown.out
