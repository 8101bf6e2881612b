"""An application's own Celery worker hears how its transfers ended, whatever dies in between."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidSpec
from orchestrator.states import State
from tests.e2e.fleet import CHECKOUT, Fleet, eventually
from tests.e2e.shared import Site
from tests.e2e.told_app import TOLD
from tests.servers.process import ServerProcess
from tests.servers.valkey import Valkey

pytest_plugins = ["tests.e2e.calm"]

NOTIFY = "app.transfer_ended@celery"
CANARY = "cAnArY"


@contextlib.contextmanager
def application(folder: Path, broker: str) -> Iterator[ServerProcess]:
    """Its worker, started as people start one: ``celery -A app worker``, with no queue named."""
    log = folder / "told.log"
    worker = ServerProcess(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.e2e.told_app",
            "worker",
            "--pool=threads",
            "-c2",
            "-nt@t",
            "-linfo",
        ],
        log=log,
        ready=lambda: "ready." in log.read_text("utf-8", "replace"),
        env={**os.environ, "TOLD_BROKER": broker, "PYTHONWARNINGS": "ignore"},
        cwd=CHECKOUT,
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.kill()


def told(broker: Valkey, transfer_id: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """(task id, outcome) of what the application heard of a transfer, once it is this often."""

    def heard() -> list[Any]:
        rows: Any = broker.client().lrange(TOLD, 0, -1)
        return [each for each in map(json.loads, rows) if each[1] == transfer_id]

    eventually(lambda: len(heard()) >= count, f"the application hears {count} times of {transfer_id}")
    return [(name, outcome) for name, _, outcome in heard()]


def test_a_foreign_worker_hears_of_completed_failed_retried_and_cancelled_transfers(site: Site, tmp_path: Path) -> None:
    redis, asked = site.fleet.redis, {"notify": NOTIFY, "reference": "row 7", "tenant": "them"}
    with application(tmp_path, redis.url):
        source = site.file(b"abc")
        done = site.run(source, tmp_path / "done", **asked).transfer_id
        missing = f"{site.web.base}/later?sig={CANARY}"
        failed = site.submit(missing, tmp_path / "later", **asked)
        site.fleet.wait_state(failed, State.FAILED)
        cancelled = site.client.submit_paused(str(source), str(tmp_path / "never"), **asked)
        site.client.cancel(cancelled)

        ((name, outcome),) = told(redis, done, 1)
        ((first, failure),) = told(redis, failed, 1)
        ((_, end),) = told(redis, cancelled, 1)
        site.web.serve("/later", b"xyz")
        site.client.retry(failed)
        (_, (second, success)) = told(redis, failed, 2)

    assert name.startswith(f"{done}.")
    assert (outcome["state"], outcome["code"], outcome["number"]) == ("completed", "", 0)
    assert (outcome["reference"], outcome["tenant"]) == ("row 7", "them")
    assert outcome["result"]["size_bytes"] == 3
    assert (failure["state"], failure["code"], failure["number"]) == ("failed", "not_found", 109)
    assert CANARY not in str(failure)
    assert (end["state"], end["code"], end["number"]) == ("cancelled", "cancelled", 120)
    assert (success["state"], first == second) == ("completed", False)
    assert list(redis.client().scan_iter("hl:*notice*")) == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Valkey]:
    """The application's own."""
    server = Valkey(tmp_path / "broker")
    yield server
    server.kill()


@pytest.fixture
def fleet(tmp_path: Path, broker: Valkey) -> Iterator[Fleet]:
    with Fleet(tmp_path, notify_broker_url=broker.url) as fleet:
        yield fleet


def copy_a_little(fleet: Fleet) -> str:
    source = fleet.folder / "source"
    source.write_bytes(b"abc")
    transfer_id = fleet.client.submit(str(source), str(fleet.folder / "copy"), notify=NOTIFY)
    return fleet.wait(transfer_id).transfer_id


def test_a_worker_killed_before_its_notice_was_taken_leaves_it_to_another(
    fleet: Fleet, broker: Valkey, tmp_path: Path
) -> None:
    broker.start()
    worker = fleet.worker("w1")
    os.kill(broker.pid, signal.SIGSTOP)  # the notice is being sent, and nobody takes it
    transfer_id = copy_a_little(fleet)
    redis = fleet.redis.client()
    eventually(lambda: redis.hget(f"hl:{{s0}}:notice:{transfer_id}.1", "tries") == b"1", "the notice is being sent")

    worker.kill_group()
    os.kill(broker.pid, signal.SIGCONT)
    fleet.worker("w2")

    with application(tmp_path, broker.url):
        heard = told(broker, transfer_id, 1)
    assert {name for name, _ in heard} == {f"{transfer_id}.1"}
    assert {outcome["state"] for _, outcome in heard} == {"completed"}
    eventually(lambda: not redis.exists("hl:{s0}:outbox"), "the outbox is empty")


def test_a_broker_that_was_away_takes_the_notice_when_it_is_back(fleet: Fleet, broker: Valkey, tmp_path: Path) -> None:
    elsewhere = {name: fleet.redis.database(9) for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")}
    fleet.env |= elsewhere  # somebody else's
    worker = fleet.worker("w1")
    transfer_id = copy_a_little(fleet)
    eventually(lambda: len(worker.events("notice_not_sent")) >= 2, "it was tried again")

    with broker, application(tmp_path, broker.url):
        ((name, outcome),) = told(broker, transfer_id, 1)

    assert (name, outcome["state"]) == (f"{transfer_id}.1", "completed")
    assert len(worker.events("notice_sent")) == 1
    assert fleet.redis.client(9).dbsize() == 0


@pytest.mark.parametrize("value", ["", "a b", "task@", "task@haulage.data", {"task": "t", "queue": "q", "url": "x"}])
def test_whom_to_notify_is_checked_before_anything_is_queued(site: Site, value: Any) -> None:
    with pytest.raises(InvalidSpec, match="notify"):
        site.submit("mem:a", site.folder / "b", notify=value)
