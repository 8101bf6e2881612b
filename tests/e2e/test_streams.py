"""Sources that can only be read once, front to back: no ranges, nothing that pins them, or no size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet
from tests.e2e.shared import BUCKET, KIB, MIB, STORE, CalmFleet, Site, noise, partial_files, sha256
from tests.servers.process import wait_until
from tests.servers.range_server import RangeServer

pytest_plugins = ["tests.e2e.calm"]

PATH = "/stream.bin"
AFTER_THE_LOOK: dict[str, Any] = {"method": "GET", "after": 1}
KINDS: dict[str, Callable[[RangeServer, bytes], object]] = {
    "without ranges": lambda web, data: web.serve(PATH, data, ranges=False),
    "without a validator": lambda web, data: web.serve(PATH, data, etag=None, last_modified=None),
    "with a weak ETag alone": lambda web, data: web.serve(PATH, data, etag='W/"weak"', last_modified=None),
    "of unknown size": lambda web, data: serve_unsized(web, data),
}


def serve_unsized(web: RangeServer, data: bytes) -> None:
    web.serve(PATH, data, ranges=False)
    web.fault(PATH, chunked=True)


@pytest.fixture(params=KINDS)
def stream(request: pytest.FixtureRequest) -> Callable[[RangeServer, bytes], object]:
    return KINDS[request.param]


def readings(web: RangeServer) -> int:
    """How often it was read from its start; a look at its first byte does not count."""
    starts = [each for each in web.requests if each.method == "GET" and each.range != "bytes=0-0"]
    assert all(each.range is None or each.range.startswith("bytes=0-") for each in starts)
    return len(starts)


def test_a_stream_becomes_a_file(site: Site, stream: Callable[[RangeServer, bytes], object]) -> None:
    data = noise(5 * 64 * KIB + 7)
    stream(site.web, data)
    target = site.folder / "target.bin"

    done = site.run(site.web.base + PATH, target, part_size=64 * KIB)

    assert target.read_bytes() == data
    assert done.result["parts"] == 6
    assert done.progress.durable_bytes == len(data)
    assert readings(site.web) == 1


def test_a_stream_becomes_an_object(site: Site, stream: Callable[[RangeServer, bytes], object]) -> None:
    data = noise(11 * MIB)
    stream(site.web, data)
    key = site.key()

    done = site.run(site.web.base + PATH, site.store.url(key), part_size=5 * MIB)

    assert sha256(site.store.read(key)) == sha256(data)
    assert done.result["parts"] == 3
    assert readings(site.web) == 1
    assert site.store.uploads(key) == 0


@pytest.mark.parametrize("size_bytes", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB])
def test_a_stream_of_unknown_size_ends_at_any_edge(site: Site, size_bytes: int) -> None:
    data = noise(size_bytes)
    serve_unsized(site.web, data)
    target = site.folder / "target.bin"

    done = site.run(site.web.base + PATH, target, part_size=64 * KIB)

    assert target.read_bytes() == data
    assert done.result["parts"] == max(1, -(-size_bytes // (64 * KIB)))


@pytest.mark.parametrize(
    "fault", [{"cut": 100_000}, {"reset": 100_000}, {"stall": 100_000}], ids=["cut", "reset", "stall"]
)
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_a_stream_that_breaks_is_read_anew_from_its_start(site: Site, fault: dict[str, Any], sized: bool) -> None:
    data = noise(300_000)
    site.web.serve(PATH, data, ranges=False)
    site.web.fault(PATH, **AFTER_THE_LOOK, times=1, chunked=not sized, **fault)
    if not sized:
        site.web.fault(PATH, chunked=True)
    target = site.folder / "target.bin"

    done = site.run(site.web.base + PATH, target, part_size=64 * KIB)

    assert target.read_bytes() == data
    assert done.progress.durable_bytes == len(data)
    assert readings(site.web) == 2
    assert partial_files(site.folder) == []


def test_a_body_that_ends_with_its_connection_proves_nothing(site: Site) -> None:
    """Without a length, whole and cut short look the same."""
    site.web.serve(PATH, noise(100_000), ranges=False)
    site.web.fault(PATH, close_delimited=True)
    target = site.folder / "target.bin"

    assert site.fail(site.web.base + PATH, target) == (110, "length_unknown")

    assert not target.exists()


def test_with_its_size_named_a_body_that_ends_with_its_connection_is_taken(site: Site) -> None:
    data = noise(100_000)
    site.web.serve(PATH, data, ranges=False)
    site.web.fault(PATH, close_delimited=True)
    target = site.folder / "target.bin"

    site.run(site.web.base + PATH, target, size_bytes=len(data))

    assert target.read_bytes() == data


def test_a_put_needs_the_size(site: Site) -> None:
    serve_unsized(site.web, noise(1000))

    assert site.fail(site.web.base + PATH, f"{site.web.base}/up.bin") == (110, "length_unknown")


def test_a_stream_is_paused_and_begins_anew(site: Site) -> None:
    data = noise(600_000)
    site.web.serve(PATH, data, ranges=False)
    stalled = site.web.fault(PATH, **AFTER_THE_LOOK, stall=200_000)
    target = site.folder / "target.bin"
    transfer_id = site.submit(site.web.base + PATH, target, part_size=64 * KIB)
    site.fleet.wait_leased(transfer_id)

    site.client.pause(transfer_id)
    wait_until(lambda: not site.fleet.live_leases(transfer_id), "the lease is given back")
    stalled.times = 0
    site.client.resume(transfer_id)
    done = site.fleet.wait(transfer_id)

    assert target.read_bytes() == data
    assert done.progress.durable_bytes == len(data)


@pytest.mark.parametrize(("to_store", "sized"), [(False, False), (True, True)], ids=["to a file", "to the store"])
def test_the_worker_of_a_stream_is_killed_and_another_begins_anew(
    tmp_path: Path, calm_fleet: CalmFleet, to_store: bool, sized: bool
) -> None:
    data = noise(6 * MIB + 1)
    store = calm_fleet.store
    assert store.server
    key = f"killed-{sized}.bin"
    destination = store.url(key) if to_store else str(tmp_path / "target.bin")
    options = {"destination_profile": STORE} if to_store else {}
    with Fleet(tmp_path, lease_seconds=2, **store.environment) as fleet, RangeServer(throttle=5 * MIB) as web:
        web.serve(PATH, data, ranges=False)
        if not sized:
            web.fault(PATH, chunked=True)
        first = fleet.worker("first")
        transfer_id = fleet.client.submit(
            web.base + PATH, destination, part_size=5 * MIB if to_store else MIB, **options
        )
        fleet.wait_leased(transfer_id, by=first.pid)
        if not to_store:
            wait_until(lambda: fleet.client.get(transfer_id).progress.parts_done >= 1, "a part is stored")

        first.kill()
        web.throttle = None
        fleet.worker("second")
        done = fleet.wait(transfer_id)

        assert fleet.kinds(transfer_id).count("completed") == 1
        assert done.progress.durable_bytes == len(data)
        assert readings(web) == 2
    if to_store:
        assert sha256(store.server.read(BUCKET, key)) == sha256(data)
        assert store.uploads(key) == 0
    else:
        assert sha256(tmp_path / "target.bin") == sha256(data)
        assert partial_files(tmp_path) == []
