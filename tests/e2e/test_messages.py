"""Celery's messages are hints: lost, doubled, late, in any order, foreign or too new, they break nothing."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.dispatch import Dispatcher, make_app
from orchestrator.states import State
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.postman import WRITE_URL, Letter, Policy, Postman
from tests.e2e.routes import KIB, HttpToLocal, noise
from tests.servers.range_server import RangeServer
from workers.sweeper import Sweeper

LEASE_SECONDS = 1.0
PARTS, IN_FLIGHT = 7, 3


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker process for all tests here; what it and the client send goes through the postman."""
    times: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "renew_seconds": 0.2, "sweep_seconds": 0.2}
    with pytest.MonkeyPatch.context() as patch, Fleet(tmp_path_factory.mktemp("fleet"), **times) as fleet:
        fleet.env[WRITE_URL] = Postman.outbox(fleet)
        patch.setenv(WRITE_URL, Postman.outbox(fleet))
        fleet.worker("w1", threads=8)
        yield fleet


@pytest.fixture(scope="module")
def postman(fleet: Fleet) -> Iterator[Postman]:
    with Postman(fleet) as postman:
        yield postman


@pytest.fixture
def route(tmp_path: Path) -> Iterator[HttpToLocal]:
    with RangeServer() as server:
        yield HttpToLocal(server, tmp_path / "out", noise(PARTS * 64 * KIB - 5), part_size=64 * KIB)


def submit(fleet: Fleet, route: HttpToLocal) -> str:
    return fleet.client.submit(route.source, route.destination, parts_in_flight=IN_FLIGHT, **route.options)


def assert_arrived(fleet: Fleet, postman: Postman, route: HttpToLocal, transfer_id: str) -> None:
    """Whole and once, also after everything that was held back came; each part was sent once."""
    fleet.wait(transfer_id)
    inode = Path(route.destination).stat()
    postman.hurry()
    eventually(lambda: postman.empty_handed, "everything delivered")
    fleet.assert_nothing_is_left(transfer_id)

    assert route.arrived() == route.expected
    assert route.leftovers() == []
    assert (Path(route.destination).stat().st_ino, Path(route.destination).stat().st_mtime_ns) == (
        inode.st_ino,
        inode.st_mtime_ns,
    )
    assert sorted(each.part for each in route.attempts()[0]) == list(range(1, PARTS + 1))


def assert_no_spinning(fleet: Fleet, postman: Postman, transfer_id: str, *, per_step: int = 4) -> None:
    """Messages, rounds and claims stay near what a calm run needs."""
    steps = 1 + PARTS + IN_FLIGHT + 1
    assert 3 <= len(postman.sent(transfer_id)) <= per_step * steps
    record = fleet.ledger.record(transfer_id)
    assert record.number("round") <= 2
    assert record.number("tok") <= PARTS + 2 + IN_FLIGHT  # one token each for parts, prepare and complete, and few more


def first_copy_lost(kind: str) -> Policy:
    return lambda letter: () if letter.copy == 1 and kind in ("any", letter.kind) else (0.0,)


def some_of_all(seed: int) -> Policy:
    chance = random.Random(seed)

    def policy(_letter: Letter) -> tuple[float, ...]:
        fate = chance.random()
        if fate < 0.2:
            return ()
        copies = 3 if fate < 0.4 else 1
        return tuple(chance.choice((0.0, 0.05, 0.3, 1.5 * LEASE_SECONDS)) for _ in range(copies))

    return policy


POLICIES: dict[str, Policy] = {
    **{f"{kind}-lost": first_copy_lost(kind) for kind in ("prepare", "part", "complete", "any")},
    "doubled": lambda _letter: (0.0, 0.0),
    "doubled-late": lambda _letter: (0.0, 0.7),
    "tripled-at-the-end": lambda letter: (0.0, 0.0, 0.0) if letter.kind == "complete" else (0.0,),
    "late": lambda _letter: (1.3 * LEASE_SECONDS,),
    **{f"chaos-{seed}": some_of_all(seed) for seed in (1, 2, 3)},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_messages_may_be_lost_doubled_or_late(
    fleet: Fleet, postman: Postman, route: HttpToLocal, policy: Policy
) -> None:
    with postman.obeying(policy):
        transfer_id = submit(fleet, route)
        assert_arrived(fleet, postman, route, transfer_id)

    assert_no_spinning(fleet, postman, transfer_id)


@pytest.mark.parametrize("policy", ["abort-lost", "doubled", "late"])
def test_a_clean_up_message_may_be_lost_doubled_or_late(
    fleet: Fleet, postman: Postman, route: HttpToLocal, policy: str
) -> None:
    route.server.throttle = 4 * KIB
    transfer_id = submit(fleet, route)
    fleet.wait_leased(transfer_id)
    policies = {**POLICIES, "abort-lost": first_copy_lost("abort")}

    with postman.obeying(policies[policy]):
        fleet.client.cancel(transfer_id)
        eventually(lambda: not os.listdir(route.folder), "the temporary file is gone")
        eventually(lambda: fleet.kinds(transfer_id)[-1] == "cancelled", "the clean-up is told")
        postman.hurry()
        eventually(lambda: postman.empty_handed and not fleet.queued_messages(), "everything delivered")

    assert fleet.kinds(transfer_id).count("cancelled") == 1
    assert fleet.client.get(transfer_id).state is State.CANCELLED
    assert fleet.ledger.sessions() == {}
    assert len(postman.sent(transfer_id, "abort")) <= 4


def test_sweepers_that_know_nothing_of_each_other_do_no_harm(
    fleet: Fleet, postman: Postman, route: HttpToLocal
) -> None:
    """Three at a time, without their lock and as fast as they can, while messages are lost."""
    ended = threading.Event()

    def sweep(name: str) -> None:
        ledger = fleet.ledger
        sweeper = Sweeper(ledger, Dispatcher(make_app(fleet.settings)), f"testhost:{name}:x")
        while not ended.is_set():
            ledger.redis.delete(ledger.prefixes[0] + "sweeper")
            sweeper.sweep_once()

    threads = [threading.Thread(target=sweep, args=(str(number),)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        with postman.obeying(first_copy_lost("any")):
            transfer_id = submit(fleet, route)
            assert_arrived(fleet, postman, route, transfer_id)
    finally:
        ended.set()
        for thread in threads:
            thread.join()

    assert_no_spinning(fleet, postman, transfer_id)


def test_completing_too_early_arms_no_round(fleet: Fleet, postman: Postman, route: HttpToLocal) -> None:
    route.server.throttle = 4 * KIB
    transfer_id = submit(fleet, route)
    fleet.wait_leased(transfer_id, parts=IN_FLIGHT)
    dispatcher, record = Dispatcher(make_app(fleet.settings)), fleet.ledger.record(transfer_id)

    for round_no in (0, 1, 2, 99) * 3:
        dispatcher.complete(transfer_id, round_no, record.fields["qc"])
    eventually(lambda: not fleet.queued_messages(), "all taken")
    assert len(fleet.live_leases(transfer_id)) == IN_FLIGHT
    route.calm()

    assert_arrived(fleet, postman, route, transfer_id)
    assert fleet.ledger.record(transfer_id).number("round") == 1
    assert_no_spinning(fleet, postman, transfer_id)


def test_a_chord_that_redis_forgot_is_not_needed(fleet: Fleet, postman: Postman, route: HttpToLocal) -> None:
    """Its keys are evicted in mid-round: the ledger still knows when all parts are there, and no key stays for ever."""
    route.server.throttle = 4 * KIB
    transfer_id = submit(fleet, route)
    fleet.wait_leased(transfer_id, parts=IN_FLIGHT)
    redis = fleet.redis.client()

    forgotten = list(redis.scan_iter("celery-taskset-meta-*"))
    assert forgotten
    redis.delete(*forgotten)
    route.calm()

    assert_arrived(fleet, postman, route, transfer_id)
    assert_no_spinning(fleet, postman, transfer_id)


def test_messages_of_a_newer_version_are_taken_without_what_is_unknown(
    fleet: Fleet, postman: Postman, route: HttpToLocal
) -> None:
    def from_the_future(message: dict[str, Any]) -> None:
        args, kwargs, _embedded = message["body"]
        args += ["later", {"since": 2}]
        kwargs["newer"] = True

    postman.rewrite = from_the_future
    try:
        transfer_id = submit(fleet, route)
        assert_arrived(fleet, postman, route, transfer_id)
    finally:
        postman.rewrite = lambda _message: None

    assert_no_spinning(fleet, postman, transfer_id)


@pytest.mark.parametrize("when", ["before", "while it runs"])
def test_a_record_of_a_newer_version_waits_for_a_worker_that_knows_it(
    fleet: Fleet, postman: Postman, route: HttpToLocal, when: str
) -> None:
    redis = fleet.redis.client()
    options = {"parts_in_flight": IN_FLIGHT, **route.options}
    transfer_id = fleet.client.submit_paused(route.source, route.destination, **options)  # no worker sees it yet
    key = f"{fleet.ledger.prefix(transfer_id)}t:{transfer_id}"
    (known,) = redis.hmget(key, "schema")
    if when == "while it runs":
        route.server.throttle = 4 * KIB
        fleet.client.resume(transfer_id)
        fleet.wait_leased(transfer_id)
        redis.hset(key, "schema", 99)
        route.calm()
    else:
        redis.hset(key, "schema", 99)
        fleet.client.resume(transfer_id)
    eventually(lambda: redis.hmget(key, "state", "reason") == [b"waiting", b"schema"], "parked")
    assert fleet.live_leases(transfer_id) == {}

    redis.hset(key, "schema", known)
    fleet.client.pause(transfer_id)
    fleet.client.resume(transfer_id)
    fleet.wait(transfer_id)
    assert route.arrived() == route.expected
    fleet.assert_nothing_is_left(transfer_id)


class Trap:
    """What a pickle does to those who open it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickles_and_unknown_tasks_are_refused(
    fleet: Fleet, postman: Postman, route: HttpToLocal, tmp_path: Path
) -> None:
    app, trap = make_app(fleet.settings), tmp_path / "opened"
    app.conf.accept_content = ["json", "pickle"]
    queue = "haulage.control"
    for name in ("haulage.prepare", "haulage.no_such_task"):
        for serializer, argument in (("pickle", Trap(trap)), ("json", "s0-x")):
            args: list[Any] = [argument, 1]
            app.send_task(
                name, args=args, queue=queue, serializer=serializer, connection=app.connection(fleet.redis.url)
            )

    eventually(lambda: not fleet.queued_messages(), "all taken")
    transfer_id = submit(fleet, route)

    assert_arrived(fleet, postman, route, transfer_id)
    assert not trap.exists()
    log = fleet.workers[0].log_file.read_text("utf-8", "replace")
    assert "haulage.no_such_task" in log
    assert "pickle" in log
