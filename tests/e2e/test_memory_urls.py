"""``mem:``: small objects in the state store, as a source and as a destination."""

from __future__ import annotations

import os
import uuid

import pytest

from orchestrator.blobs import RedisBlobs
from orchestrator.states import State
from tests.e2e.shared import KIB, MIB, Site, noise
from tests.servers.process import wait_until

pytest_plugins = ["tests.e2e.calm"]


def blobs(site: Site) -> RedisBlobs:
    return RedisBlobs(site.fleet.redis.client(), 3600)


def stored(site: Site, data: bytes) -> str:
    """The URL of a new string."""
    name = f"made-{uuid.uuid4().hex}"
    blobs(site).write(name, 0, data)
    return f"mem:{name}"


def fresh() -> str:
    return f"mem:new/{uuid.uuid4().hex}"


def read(site: Site, url: str) -> bytes | None:
    name = url.removeprefix("mem:")
    size = blobs(site).size(name)
    return None if size is None else blobs(site).read(name, 0, size)


@pytest.mark.parametrize("size_bytes", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 3 * MIB])
def test_a_string_becomes_a_file_and_a_file_a_string(site: Site, size_bytes: int) -> None:
    data, url = noise(size_bytes), fresh()

    site.run(stored(site, data), site.folder / "x.bin", part_size=64 * KIB)
    site.run(site.folder / "x.bin", url, part_size=64 * KIB)

    assert (site.folder / "x.bin").read_bytes() == data
    assert read(site, url) == data


def test_from_string_to_string_to_the_store_and_by_put(site: Site) -> None:
    data, second, key = noise(200_000), fresh(), site.key()

    site.run(stored(site, data), second)
    site.run(second, site.store.url(key))
    site.run(second, f"{site.web.base}/up.bin")

    assert site.store.read(key) == data
    assert site.web.objects["/up.bin"].content == data


def test_a_page_becomes_a_string(site: Site) -> None:
    url = fresh()

    done = site.run(site.web.serve("/x.bin", noise(500_000)), url, part_size=64 * KIB)

    assert read(site, url) == noise(500_000)
    assert done.direction == "download"


def test_a_string_lives_as_long_as_its_transfer_can_be_shown(site: Site) -> None:
    url = fresh()

    site.run(stored(site, b"x"), url)

    client = site.fleet.redis.client()
    seconds = client.ttl("hl:{mem}:" + url.removeprefix("mem:"))
    assert site.fleet.settings.retention_seconds - 60 < seconds <= site.fleet.settings.retention_seconds


@pytest.mark.parametrize(("on_exists", "expected"), [("overwrite", b"new"), ("skip", b"old"), ("fail", b"old")])
def test_an_existing_string_is_treated_as_the_spec_says(site: Site, on_exists: str, expected: bytes) -> None:
    source, target = stored(site, b"new"), stored(site, b"old")

    if on_exists == "fail":
        assert site.fail(source, target, on_exists=on_exists) == (105, "destination_exists")
    else:
        site.run(source, target, on_exists=on_exists)

    assert read(site, target) == expected


def test_a_string_too_large_for_memory_is_refused(site: Site) -> None:
    big = site.folder / "big.bin"
    big.touch()
    os.truncate(big, 16 * MIB + 1)
    url = fresh()

    assert site.fail(big, url) == (114, "object_too_large")

    assert read(site, url) is None


def test_a_string_that_changes_between_two_parts_is_not_mixed(site: Site) -> None:
    source = stored(site, noise(300 * KIB))
    target = site.folder / "x.bin"
    transfer_id = site.submit(source, target, part_size=100, parts_in_flight=1)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done > 0, "a part is stored")

    blobs(site).write(source.removeprefix("mem:"), 0, noise(300 * KIB + 1)[1:])
    failed = site.fleet.wait_state(transfer_id, State.FAILED)

    assert failed.error["code"] == "source_changed"
    assert failed.progress.parts_done < 3072
    assert not target.exists()


def test_a_cancelled_string_leaves_nothing(site: Site) -> None:
    site.web.serve("/slow.bin", noise(200_000))
    site.web.fault("/slow.bin", method="GET", after=1, drip_seconds=0.02)
    url = fresh()
    transfer_id = site.submit(f"{site.web.base}/slow.bin", url, part_size=64 * KIB)
    site.fleet.wait_leased(transfer_id)

    site.client.cancel(transfer_id)
    client = site.fleet.redis.client()
    pattern = "hl:{mem}:" + url.removeprefix("mem:") + "*"

    wait_until(lambda: not list(client.scan_iter(pattern, count=10_000)), "the partial string is gone")
