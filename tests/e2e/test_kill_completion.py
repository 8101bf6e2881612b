"""The commit: asked for three times, its reply lost, its worker killed, a zombie writing on. One object comes of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.dispatch import Dispatcher, make_app
from orchestrator.states import State
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.routes import LocalToS3, ToS3, open_route

IN_FLIGHT = 4
COMMIT, OPEN = "uploadId=", "uploads"
"""What the requests that commit and that open a multipart upload have in their query."""


@pytest.fixture(params=["local-s3", "s3-s3-server"])
def route(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ToS3]:
    with open_route(request.param, tmp_path, request.getfixturevalue("near_s3"), None) as route:
        assert isinstance(route, ToS3)
        route.calm()
        yield route


@pytest.fixture
def fleet(route: ToS3, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, **route.settings) as fleet:
        yield fleet


def submit(fleet: Fleet, route: ToS3) -> str:
    return fleet.client.submit(route.source, route.destination, parts_in_flight=IN_FLIGHT, **route.options)


def commits(route: ToS3) -> int:
    """How often the store was asked to join the parts."""
    return len(route.proxy.requests("POST", f"{route.key}?{COMMIT}"))


def assert_one_object(fleet: Fleet, route: ToS3, transfer_id: str, *, deliveries_lost: bool = False) -> None:
    fleet.wait(transfer_id)
    stamp = route.stamp()
    fleet.assert_nothing_is_left(transfer_id, deliveries_lost=deliveries_lost)
    record = fleet.ledger.record(transfer_id)
    assert record.number("round") == 1
    assert route.arrived() == route.expected
    assert route.leftovers() == []
    assert route.stamp() == stamp
    versions = route.store.client().list_objects_v2(Bucket=route.bucket, Prefix=route.key)
    assert [each["Key"] for each in versions["Contents"]] == [route.key]


def test_three_completes_a_lost_reply_and_a_zombie_make_one_object(route: ToS3, fleet: Fleet) -> None:
    """While the first commit's reply is on its way to nowhere, two more are asked for and a zombie sends a part."""
    fleet.worker("w1", threads=8)
    route.proxy.delay_reply(1.5, "POST", COMMIT)
    route.proxy.drop_reply("POST", COMMIT)
    transfer_id = submit(fleet, route)
    eventually(lambda: commits(route) == 1, "the commit is on its way")
    record = fleet.ledger.record(transfer_id)
    dispatcher = Dispatcher(make_app(fleet.settings))

    zombie = threading.Thread(target=send_again, args=(route, record.fields["session"]))
    zombie.start()
    for _ in range(3):
        dispatcher.complete(transfer_id, record.number("round"), record.fields["qc"])
    zombie.join()

    assert_one_object(fleet, route, transfer_id)
    assert 2 <= commits(route) <= 3
    assert fleet.ledger.record(transfer_id).number("fin_attempts") <= 2
    assert fleet.ledger.record(transfer_id).number("tok") <= 7 + 1 + 2 + 1  # parts, prepare, commits, one to spare


def send_again(route: ToS3, upload: str) -> None:
    """What a worker does that was frozen in its last write: the same bytes, too late. The store may refuse them."""
    client, data = route.store.client(), route.store.read(route.bucket, route.key)
    with suppress(client.exceptions.NoSuchUpload):
        client.upload_part(
            Bucket=route.bucket, Key=route.key, UploadId=upload, PartNumber=1, Body=data[: route.part_size]
        )


def test_a_deliveries_lost_in_the_commit_is_replaced(route: ToS3, fleet: Fleet) -> None:
    """The store has joined the parts, and nobody heard of it."""
    workers = {each.pid: each for each in (fleet.worker("w1", wait=False), fleet.worker("w2"))}
    fleet.workers[0].wait_ready()
    route.proxy.delay_reply(60, "POST", COMMIT)
    transfer_id = submit(fleet, route)
    eventually(lambda: commits(route) == 1, "the commit is on its way")
    assert fleet.client.get(transfer_id).state is State.COMPLETING
    process, _ = fleet.live_leases(transfer_id)["fin"]

    workers[int(process.split(":")[1])].kill()

    assert_one_object(fleet, route, transfer_id, deliveries_lost=True)
    assert commits(route) <= 2
    assert len(route.attempts()[0]) == 7


def test_a_deliveries_lost_while_it_opens_the_upload_leaves_none_behind(route: ToS3, fleet: Fleet) -> None:
    """The upload is open, and nobody knows its name: the next worker finds and adopts it."""
    first, _ = fleet.worker("w1", pools="control", wait=False), fleet.worker("w2", pools="data")
    first.wait_ready()
    route.proxy.delay_reply(60, "POST", f"{route.key}?{OPEN}")
    transfer_id = submit(fleet, route)
    eventually(lambda: bool(route.leftovers()), "an open upload")

    os.kill(first.pid, signal.SIGKILL)
    fleet.worker("w3", pools="control")

    assert_one_object(fleet, route, transfer_id, deliveries_lost=True)
    assert len(route.proxy.requests("POST", f"{route.key}?{OPEN}")) == 1


@pytest.mark.parametrize("route", ["local-s3"], indirect=True)
@pytest.mark.parametrize("opener", ["killed", "alive"])
def test_an_upload_opened_for_a_transfer_that_is_cancelled_just_then_is_aborted(
    tmp_path: Path, route: ToS3, opener: str
) -> None:
    """The store has opened it, its name is on the way to nobody, and no record has it."""
    with Fleet(tmp_path, read_seconds=3.0, **route.settings) as fleet:
        first = fleet.worker("w1", pools="control")
        route.proxy.delay_reply(60, "POST", f"{route.key}?{OPEN}")
        transfer_id = submit(fleet, route)
        eventually(lambda: bool(route.leftovers()), "an open upload")

        if opener == "killed":
            os.kill(first.pid, signal.SIGKILL)
            fleet.worker("w2", pools="control", wait=False)
        assert fleet.client.cancel(transfer_id) is State.CANCELLED

        eventually(lambda: "cancelled" in fleet.kinds(transfer_id), "the end is told")
        assert route.leftovers() == []
        assert fleet.ledger.record(transfer_id).fields["cleanup"] == "done"


@pytest.mark.parametrize("route", ["local-s3"], indirect=True)
def test_of_two_uploads_that_may_be_its_own_a_cancel_aborts_neither(route: ToS3, fleet: Fleet) -> None:
    first = fleet.worker("w1", pools="control")
    route.proxy.delay_reply(60, "POST", f"{route.key}?{OPEN}")
    transfer_id = submit(fleet, route)
    eventually(lambda: bool(route.leftovers()), "an open upload")
    route.store.client().create_multipart_upload(Bucket=route.bucket, Key=route.key)
    os.kill(first.pid, signal.SIGKILL)

    fleet.client.cancel(transfer_id)
    second = fleet.worker("w2", pools="control")

    eventually(lambda: "cancelled" in fleet.kinds(transfer_id), "the end is told")
    assert len(route.leftovers()) == 2
    assert [each["count"] for each in second.events("unknown_uploads_found")] == [2]


def test_a_commit_longer_than_every_time_out_is_done_once(tmp_path: Path, route: ToS3) -> None:
    times: dict[str, Any] = {"lease_seconds": 2.0, "renew_seconds": 0.3, "sweep_seconds": 0.3, "read_seconds": 2.0}
    with Fleet(tmp_path, **times, **route.settings) as fleet:
        fleet.worker("w1", module="tests.e2e.short_visibility")
        route.proxy.delay_reply(5.0, "POST", COMMIT)

        transfer_id = submit(fleet, route)

        assert_one_object(fleet, route, transfer_id)
        assert commits(route) == 1
        assert fleet.ledger.record(transfer_id).number("fin_attempts") == 1


@pytest.mark.parametrize("route", ["local-s3"], indirect=True)
def test_parts_longer_than_every_time_out_are_sent_once(tmp_path: Path, route: LocalToS3) -> None:
    """Lease, visibility timeout, read, stall and connect time-outs: two seconds at most; a part takes five."""
    times: dict[str, Any] = {"lease_seconds": 2.0, "renew_seconds": 0.3, "sweep_seconds": 0.3}
    limits: dict[str, Any] = {"read_seconds": 2.0, "stall_seconds": 2.0, "connect_seconds": 2.0}
    with Fleet(tmp_path, **times, **limits, **route.settings) as fleet:
        fleet.worker("w1", module="tests.e2e.short_visibility", threads=8)
        route.proxy.bytes_per_second = route.part_size // 5

        transfer_id = fleet.client.submit(route.source, route.destination, parts_in_flight=7, **route.options)

        assert_one_object(fleet, route, transfer_id)
        assert sorted(each.part for each in route.attempts()[0]) == list(range(1, 8))
        assert fleet.ledger.record(transfer_id).number("tok") == 7 + 1 + 1  # parts, prepare, commit
