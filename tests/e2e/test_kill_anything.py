"""SIGKILL for a worker process, a whole worker, the submitter or Redis while parts move: it arrives whole, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import CHECKOUT, LEASE_SECONDS, Fleet, WorkerProcess, eventually
from tests.e2e.routes import Route, open_route

WAYS = ("http-local", "local-s3", "s3-s3-relay", "s3-s3-server")
IN_FLIGHT = 4
RECOVERY_SECONDS = LEASE_SECONDS + 5


@pytest.fixture(params=WAYS)
def route(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Route]:
    way = request.param
    near = None if way == "http-local" else request.getfixturevalue("near_s3")
    far = request.getfixturevalue("far_s3") if way == "s3-s3-relay" else None
    with open_route(way, tmp_path, near, far) as route:
        yield route


@pytest.fixture
def fleet(route: Route, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, **route.settings) as fleet:
        yield fleet


def submit(fleet: Fleet, route: Route) -> str:
    return fleet.client.submit(route.source, route.destination, parts_in_flight=IN_FLIGHT, **route.options)


def wait_moving(fleet: Fleet, route: Route, transfer_id: str, victim: WorkerProcess | None = None) -> set[int]:
    """Numbers of parts under a live lease that a server has seen, held by ``victim`` if given."""
    pids = victim.pids if victim else None
    held = {int(each) for each in fleet.wait_leased(transfer_id, by=pids, seen_moving=route.bytes_move)}
    eventually(lambda: held <= {each.part for each in route.attempts()[0]}, "the parts at the server")
    return held


def assert_arrived(fleet: Fleet, route: Route, transfer_id: str, *, kills: int) -> None:
    """Whole, once, and no more sent again than what was in flight."""
    result = fleet.wait(transfer_id).result
    assert route.arrived() == route.expected
    assert result["size_bytes"] == route.size_bytes
    for seen in route.attempts():
        waste = sum(each.size_bytes for each in seen) - route.size_bytes
        assert waste <= kills * IN_FLIGHT * route.part_size
    fleet.assert_nothing_is_left(transfer_id, deliveries_lost=kills > 0)
    assert route.leftovers() == []


def assert_sent_again(route: Route, held: set[int], since: float, *, could_at: float = 0.0) -> None:
    """Each part in flight at the kill was tried again in time, at each server it passes.

    ``could_at``: when somebody was there to do it, if that was later than the kill.
    """
    for seen in route.attempts():
        again = {each.part: each.began for each in reversed(seen) if each.began > since}
        assert held <= again.keys()
        assert max(again[part] for part in held) - max(since, could_at) <= RECOVERY_SECONDS


@pytest.mark.parametrize("supervised", [False, True], ids=["process", "supervised"])
def test_a_killed_worker_costs_what_it_had_in_flight(route: Route, fleet: Fleet, supervised: bool) -> None:
    pools = "data" if supervised else "control,data,express"
    victim = fleet.worker("victim", pools=pools, threads=2, supervised=supervised, wait=False)
    fleet.worker("heir", threads=2)
    victim.wait_ready()
    transfer_id = submit(fleet, route)
    held = wait_moving(fleet, route, transfer_id, victim)

    killed_at = time.time()
    victim.kill_group()
    route.calm()

    assert_arrived(fleet, route, transfer_id, kills=1)
    assert_sent_again(route, held, killed_at)


@pytest.mark.parametrize("route", ["http-local"], indirect=True)
def test_a_supervised_worker_that_is_alone_starts_a_killed_process_again(route: Route, fleet: Fleet) -> None:
    worker = fleet.worker("w1", pools="control,data", supervised=True)
    transfer_id = submit(fleet, route)
    eventually(lambda: len(worker.pids) == 3, "a supervisor and two processes")
    held = wait_moving(fleet, route, transfer_id, worker)
    (process,) = {each.split(":")[1] for each, _ in fleet.live_leases(transfer_id).values()}

    killed_at = time.time()
    os.kill(int(process), signal.SIGKILL)
    route.calm()
    eventually(lambda: len(worker.events("worker_started")) == 3, "another process in its place")
    back_at = time.time()

    assert_arrived(fleet, route, transfer_id, kills=1)
    assert_sent_again(route, held, killed_at, could_at=back_at)
    assert int(process) not in worker.pids
    assert len(worker.pids) == 3


def test_a_killed_redis_costs_what_was_in_flight(route: Route, fleet: Fleet) -> None:
    """Away until every part in flight was given up: unrecorded, or stopped before its end."""
    worker = fleet.worker("w1", threads=IN_FLIGHT, redis_retry_seconds="0.5")
    transfer_id = submit(fleet, route)
    held = wait_moving(fleet, route, transfer_id)

    fleet.redis.kill()
    if not route.bytes_move:
        route.calm()  # the store's word of what was copied comes, and cannot be recorded
    eventually(lambda: given_up(worker) >= set(held), "parts given up without Redis")
    route.calm()
    back_at = time.time()
    fleet.redis.restart()

    assert_arrived(fleet, route, transfer_id, kills=1)
    assert_sent_again(route, held, back_at)


@pytest.mark.parametrize("route", ["http-local"], indirect=True)
def test_a_worker_outlives_a_redis_that_dies_while_a_message_waits_for_a_thread(route: Route, fleet: Fleet) -> None:
    """A message in hand, and room for one more: the worker asks for it, so it meets the loss in two connections."""
    worker = fleet.worker("w1", threads=2, redis_retry_seconds="0.5")
    transfer_id = fleet.client.submit(route.source, route.destination, parts_in_flight=3, **route.options)
    fleet.wait_leased(transfer_id, parts=2)
    eventually(lambda: fleet.queued_messages() == {"unacked": 1}, "the third lane, fetched and waiting for a thread")

    fleet.redis.kill()
    eventually(lambda: bool(given_up(worker)), "a part given up without Redis, so that the third lane begins")
    route.calm()
    fleet.redis.restart()

    assert_arrived(fleet, route, transfer_id, kills=1)
    assert worker.alive
    assert fleet.queued_messages() == {}


def given_up(worker: WorkerProcess) -> set[int]:
    """Parts that were stopped, or stored and could not be recorded."""
    return {int(each["part"]) for name in ("part_handed_back", "part_failed") for each in worker.events(name)}


def test_a_killed_submitter_is_not_missed(route: Route, fleet: Fleet) -> None:
    fleet.worker("w1")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in route.options.items()]
    submitter = subprocess.Popen(
        [sys.executable, "-m", "haulage", "submit", route.source, route.destination, "--wait", *options],
        env=fleet.environment,
        cwd=CHECKOUT,
    )
    eventually(lambda: bool(fleet.client.list()), "the transfer in the ledger")
    (transfer,) = fleet.client.list()
    wait_moving(fleet, route, transfer.transfer_id)

    submitter.kill()
    submitter.wait()
    route.calm()

    assert_arrived(fleet, route, transfer.transfer_id, kills=0)
