"""Haulage on a Redis that another Celery application uses with default names: neither notices the other."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord

from tests.e2e.fleet import CHECKOUT, Fleet, eventually
from tests.e2e.neighbour_app import RAN
from tests.e2e.routes import KIB, HttpToLocal, noise
from tests.servers.process import ServerProcess
from tests.servers.range_server import RangeServer

PARTS = 4


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture
def route(tmp_path: Path) -> Iterator[HttpToLocal]:
    with RangeServer() as server:
        yield HttpToLocal(server, tmp_path / "out", noise(PARTS * 64 * KIB), part_size=64 * KIB)


@pytest.fixture
def neighbour(fleet: Fleet) -> Iterator[ServerProcess]:
    """Its worker: acknowledges late, with a visibility timeout of two seconds, mingles and gossips."""
    log = fleet.folder / "neighbour.log"
    worker = ServerProcess(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.e2e.neighbour_app",
            "worker",
            "--pool=threads",
            "-c2",
            "-nn@n",
            "-linfo",
        ],
        log=log,
        ready=lambda: "ready." in log.read_text("utf-8", "replace"),
        env={**os.environ, "NEIGHBOUR_REDIS": fleet.redis.url},
        cwd=CHECKOUT,
    )
    worker.start()
    yield worker
    worker.kill()


@pytest.fixture
def app(fleet: Fleet) -> Iterator[Celery]:
    """The neighbour's application as its own web process has it."""
    with Celery("neighbour", broker=fleet.redis.url, backend=fleet.redis.url, set_as_current=False) as app:
        yield app


def test_a_neighbour_and_haulage_do_not_notice_each_other(
    fleet: Fleet, route: HttpToLocal, neighbour: ServerProcess, app: Celery
) -> None:
    worker = fleet.worker("w1")
    redis = fleet.redis.client()
    route.server.throttle = 16 * KIB  # four seconds a part: twice the neighbour's visibility timeout
    transfer_id = fleet.client.submit(route.source, route.destination, parts_in_flight=PARTS, **route.options)
    fleet.wait_leased(transfer_id, parts=PARTS)

    header = [app.signature("neighbour.double", args=(number,)) for number in range(10)]
    answer: Any = chord(header, app=app)(app.signature("neighbour.total"))
    assert answer.get(timeout=60) == 2 * sum(range(10))
    app.send_task("neighbour.double", args=(99,), queue="nobody-listens")
    fleet.wait(transfer_id)

    rows: Any = redis.lrange(RAN, 0, -1)
    ran = Counter(each.decode() for each in rows)
    assert ran == {**{f"double {number}": 1 for number in range(10)}, "total": 1}
    assert redis.llen("nobody-listens") == 1
    assert redis.hlen("unacked") == 0
    assert route.arrived() == route.expected
    assert sorted(each.part for each in route.attempts()[0]) == list(range(1, PARTS + 1))
    fleet.assert_nothing_is_left(transfer_id)
    assert worker.events("task_failed") == worker.events("lane_failed") == []


def test_a_neighbours_remote_control_does_not_reach_haulage(
    fleet: Fleet, route: HttpToLocal, neighbour: ServerProcess, app: Celery
) -> None:
    fleet.worker("w1", threads=2)
    route.server.throttle = 32 * KIB
    transfer_id = fleet.client.submit(route.source, route.destination, parts_in_flight=PARTS, **route.options)
    fleet.wait_leased(transfer_id, parts=2)

    assert [name for reply in app.control.ping(timeout=2) for name in reply] == ["n@n"]
    app.control.purge()
    app.control.shutdown()
    eventually(lambda: not neighbour.alive, "the neighbour's worker has ended")
    fleet.wait(transfer_id)

    assert route.arrived() == route.expected
    assert sorted(each.part for each in route.attempts()[0]) == list(range(1, PARTS + 1))


def test_settings_for_the_neighbour_in_the_environment_are_not_ours(
    fleet: Fleet, route: HttpToLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"CELERY_BROKER_URL": fleet.redis.database(9), "CELERY_RESULT_BACKEND": fleet.redis.database(9)}
    for name, value in theirs.items():
        fleet.env[name] = value
        monkeypatch.setenv(name, value)
    fleet.worker("w1")

    transfer_id = fleet.client.submit(route.source, route.destination, parts_in_flight=PARTS, **route.options)
    fleet.wait(transfer_id)

    assert route.arrived() == route.expected
    assert fleet.redis.client(9).dbsize() == 0
    fleet.assert_nothing_is_left(transfer_id)
