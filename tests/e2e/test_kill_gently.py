"""Workers that join, leave, freeze and thaw while an object is on its way."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, WorkerProcess, eventually
from tests.e2e.routes import Route, open_route

IN_FLIGHT = 4
AT_ONCE_SECONDS = 4.0
"""A tenth of it on a machine that has much else to do."""
SLOW = {"lease_seconds": "3600", "sweep_seconds": "60"}
"""Neither the end of a lease nor the sweeper helps in time."""


@pytest.fixture
def route(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Route]:
    way = getattr(request, "param", "http-local")
    near = None if way == "http-local" else request.getfixturevalue("near_s3")
    with open_route(way, tmp_path, near, None) as route:
        yield route


@pytest.fixture
def fleet(route: Route, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, **route.settings) as fleet:
        yield fleet


both_ways = pytest.mark.parametrize("route", ["http-local", "local-s3"], indirect=True)


def start_two(fleet: Fleet, *, supervised: bool = False) -> tuple[WorkerProcess, WorkerProcess]:
    """One that takes two parts, and one with room for all."""
    pools = "data" if supervised else "control,data,express"
    one = fleet.worker("one", pools=pools, threads=2, supervised=supervised, wait=False)
    other = fleet.worker("other", threads=IN_FLIGHT + 2)
    return one.wait_ready(), other


def submit(fleet: Fleet, route: Route) -> str:
    return fleet.client.submit(route.source, route.destination, parts_in_flight=IN_FLIGHT, **route.options)


def held_by(fleet: Fleet, transfer_id: str, worker: WorkerProcess) -> set[int]:
    """Parts it has leased, once bytes of them moved."""
    return {int(each) for each in fleet.wait_leased(transfer_id, by=worker.pids)}


def part_count(route: Route) -> int:
    return -(-route.size_bytes // route.part_size)


def stored(worker: WorkerProcess) -> set[int]:
    """Parts whose receipt it recorded."""
    return {int(each["part"]) for each in worker.events("part_stored") if each["answer"] == "ok"}


def test_a_worker_that_joins_takes_parts_of_the_object_on_its_way(route: Route, fleet: Fleet) -> None:
    first = fleet.worker("first", threads=1)
    transfer_id = submit(fleet, route)
    fleet.wait_leased(transfer_id, by=first.pid)

    second = fleet.worker("second", threads=2)
    fleet.wait_leased(transfer_id, by=second.pid)
    route.calm()

    fleet.wait(transfer_id)
    assert stored(second)
    assert stored(first) | stored(second) == set(range(1, part_count(route) + 1))
    assert sorted(each.part for each in route.attempts()[0]) == list(range(1, part_count(route) + 1))
    assert route.arrived() == route.expected
    fleet.assert_nothing_is_left(transfer_id)


@pytest.mark.parametrize(("route", "supervised"), [("http-local", True), ("local-s3", False)], indirect=["route"])
def test_a_worker_that_leaves_hands_its_parts_back_at_once(route: Route, tmp_path: Path, supervised: bool) -> None:
    with Fleet(tmp_path, **route.settings, **SLOW) as fleet:
        leaver, heir = start_two(fleet, supervised=supervised)
        transfer_id = submit(fleet, route)
        held = held_by(fleet, transfer_id, leaver)
        held_by(fleet, transfer_id, heir)  # else its first connection to the store would be measured too

        asked_at = time.time()
        leaver.signal(signal.SIGTERM)
        eventually(lambda: held <= again(route, asked_at).keys(), "the parts are on their way again")
        route.calm()

        fleet.wait(transfer_id)
        eventually(lambda: not leaver.alive, "it has left")
        back = handed_back(leaver)
        assert held <= back
        assert {each["why"] for each in leaver.events("part_handed_back")} == {"drain"}
        assert max(again(route, asked_at)[part] for part in back) <= AT_ONCE_SECONDS
        taken = [each for each in heir.events("part_stored") if int(each["part"]) in back]
        assert [each["attempt"] for each in taken] == [1] * len(back)
        assert sorted(each.part for each in route.attempts()[0]) == sorted([*range(1, part_count(route) + 1), *back])
        assert fleet.client.history(transfer_id) == []
        assert route.arrived() == route.expected
        fleet.assert_nothing_is_left(transfer_id)
        assert route.leftovers() == []


def handed_back(worker: WorkerProcess) -> set[int]:
    return {int(each["part"]) for each in worker.events("part_handed_back")}


def again(route: Route, since: float) -> dict[int, float]:
    """Part -> seconds until it was asked for again."""
    return {each.part: each.began - since for each in route.attempts()[0] if each.began > since}


def test_what_a_frozen_worker_had_is_not_counted_when_it_wakes_in_mid_transfer(route: Route, fleet: Fleet) -> None:
    frozen, heir = start_two(fleet)
    transfer_id = submit(fleet, route)
    held = held_by(fleet, transfer_id, frozen)

    with frozen.frozen():
        eventually(lambda: held <= leased_by(fleet, transfer_id, heir), "the heir has the parts")
    eventually(lambda: len(frozen.events("part_handed_back")) >= len(held), "it noticed")
    route.calm()

    fleet.wait(transfer_id)
    assert {each["why"] for each in frozen.events("part_handed_back")} == {"lost"}
    assert held <= stored(heir)
    assert not held & stored(frozen)
    assert stored(frozen) | stored(heir) == set(range(1, part_count(route) + 1))
    assert route.arrived() == route.expected
    fleet.assert_nothing_is_left(transfer_id)


def leased_by(fleet: Fleet, transfer_id: str, worker: WorkerProcess) -> set[int]:
    leases = fleet.live_leases(transfer_id).items()
    return {int(each) for each, (process, _) in leases if each.isdigit() and int(process.split(":")[1]) in worker.pids}


@both_ways
def test_a_frozen_worker_that_wakes_after_the_end_changes_nothing(route: Route, fleet: Fleet) -> None:
    frozen, heir = start_two(fleet)
    transfer_id = submit(fleet, route)
    held = held_by(fleet, transfer_id, frozen)

    with frozen.frozen():
        route.calm()
        fleet.wait(transfer_id)
        before = route.stamp()
    eventually(lambda: outcomes(frozen) >= len(held), "it noticed")

    assert stored(heir) >= held
    assert not stored(frozen) & held
    assert route.stamp() == before
    assert route.arrived() == route.expected
    assert route.leftovers() == []
    fleet.assert_nothing_is_left(transfer_id)


def outcomes(worker: WorkerProcess) -> int:
    """How many tries of a part have ended there, however."""
    return sum(len(worker.events(name)) for name in ("part_handed_back", "part_failed", "part_stored"))
