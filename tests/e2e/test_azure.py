"""Azure blobs in whole transfers: every way in and out, a worker that is killed, and secrets that stay secret."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import Transfer
from orchestrator.states import State
from tests.e2e.azure_route import open_azure_route
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.shared import KIB, MIB, QUICK_RETRY, noise
from tests.e2e.test_kill_anything import assert_arrived, assert_sent_again, submit, wait_moving
from tests.servers.azurite import Azurite
from tests.servers.range_server import RangeServer
from tests.servers.s3_server import S3Server

CONTAINER = "things"
PART = 5 * MIB
"""The least that S3 takes."""


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        server.make_container(CONTAINER)
        yield server


class World:
    """One worker with a profile for each store."""

    def __init__(self, folder: Path, azurite: Azurite, s3: S3Server) -> None:
        self.azurite, self.s3 = azurite, s3
        self.sas = azurite.sas(CONTAINER, "rw")
        self.old_sas = azurite.sas(CONTAINER, "rw", lasts=-timedelta(minutes=1))
        at = {"endpoint": azurite.endpoint}
        profiles: dict[str, dict[str, str]] = {
            "azure": azurite.profile,
            "shared": {**at, "sas_token": self.sas},
            "old": {**at, "sas_token": self.old_sas},
            "aws": s3.profile,
        }
        told = {f"profile_{name}__{key}": each for name, values in profiles.items() for key, each in values.items()}
        self.fleet = Fleet(folder, log_level="DEBUG", **told)

    def run(self, source: str, destination: str, **options: Any) -> Transfer:
        for role, place in (("source", source), ("destination", destination)):
            scheme = place.partition(":")[0]
            if scheme in ("azblob", "s3"):
                options.setdefault(f"{role}_profile", "azure" if scheme == "azblob" else "aws")
        options.setdefault("part_size", PART)
        return self.fleet.wait(self.fleet.client.submit(source, destination, retry=QUICK_RETRY, **options))

    def blob(self, data: bytes | None = None) -> tuple[str, str]:
        """Name and URL of a fresh blob, with ``data`` in it if given."""
        name = f"{uuid.uuid4().hex} ü.bin"
        if data is not None:
            self.azurite.blob(CONTAINER, name).upload_blob(data)
        return name, f"azblob://{CONTAINER}/{name}"

    def object(self, data: bytes | None = None) -> tuple[str, str]:
        """The same in S3."""
        key = f"{uuid.uuid4().hex}.bin"
        if data is not None:
            self.s3.client().put_object(Bucket="near", Key=key, Body=data)
        return key, f"s3://near/{key}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, azurite: Azurite, near_s3: S3Server) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("azure"), azurite, near_s3)
    with world.fleet as fleet:
        fleet.worker("w1")
        yield world


@pytest.mark.parametrize("size_bytes", [0, 1, 64 * KIB, 3 * 64 * KIB + 1])
@pytest.mark.parametrize("profile", ["azure", "shared"], ids=["key", "sas"])
def test_from_the_web_to_azure_and_on_to_a_file(world: World, tmp_path: Path, size_bytes: int, profile: str) -> None:
    data = noise(size_bytes)
    (name, blob), target = world.blob(), tmp_path / "target.bin"
    options: dict[str, Any] = {"part_size": 64 * KIB}
    with RangeServer() as web:
        world.run(web.serve("/x.bin", data), blob, destination_profile=profile, **options)

    done = world.run(blob, str(target), source_profile=profile, **options)

    assert world.azurite.read(CONTAINER, name) == data
    assert target.read_bytes() == data
    assert done.result["parts"] == max(1, -(-size_bytes // (64 * KIB)))


@pytest.mark.parametrize("size_bytes", [0, 1, 2 * 64 * KIB])
def test_a_stream_of_unknown_size_becomes_a_blob(world: World, size_bytes: int) -> None:
    data = noise(size_bytes)
    name, blob = world.blob()
    with RangeServer() as web:
        url = web.serve("/x.bin", data, ranges=False)
        web.fault("/x.bin", chunked=True)
        world.run(url, blob, part_size=64 * KIB)

    assert world.azurite.read(CONTAINER, name) == data


def test_from_azure_to_s3_and_back(world: World) -> None:
    data = noise(2 * PART + 17)
    (_, source), (key, middle), (name, target) = world.blob(data), world.object(), world.blob()

    there = world.run(source, middle)
    world.run(middle, target)

    assert there.result["verified"] == "crc64nvme"
    assert world.s3.read("near", key) == data
    assert world.azurite.read(CONTAINER, name) == data


@pytest.mark.parametrize("profile", ["azure", "shared"], ids=["key", "sas"])
def test_inside_an_account_the_service_copies(world: World, profile: str) -> None:
    data = noise(3 * MIB + 17)
    (_, source), (name, target) = world.blob(data), world.blob()

    done = world.run(source, target, part_size=MIB, copy="server", source_profile=profile, destination_profile=profile)

    assert done.result["parts"] == 4
    assert world.azurite.read(CONTAINER, name) == data


def test_what_is_there_is_skipped_where_that_is_wanted(world: World) -> None:
    name, target = world.blob(b"the old one")
    _, source = world.blob(noise(3 * MIB))

    done = world.run(source, target, part_size=MIB, on_exists="skip")

    assert done.result["skipped"] is True
    assert world.azurite.read(CONTAINER, name) == b"the old one"


def test_a_cancelled_overwrite_leaves_the_blob_that_was_there(world: World) -> None:
    name, target = world.blob(b"the old one")
    with RangeServer() as web:
        web.throttle = KIB
        options: dict[str, Any] = {"on_exists": "overwrite", "destination_profile": "azure"}
        transfer_id = world.fleet.client.submit(web.serve("/x.bin", noise(3 * MIB)), target, part_size=MIB, **options)
        world.fleet.wait_leased(transfer_id)

        world.fleet.client.cancel(transfer_id)
        eventually(lambda: "cancelled" in world.fleet.kinds(transfer_id), "the end of the clean-up")

    assert world.azurite.read(CONTAINER, name) == b"the old one"


def test_a_sas_that_ran_out_makes_a_transfer_wait_and_no_secret_is_told(world: World) -> None:
    (_, source), (_, target) = world.blob(noise(100)), world.blob()

    waiting = world.fleet.client.submit(
        source, target, source_profile="old", destination_profile="azure", retry={**QUICK_RETRY, "wait_seconds": 60}
    )
    transfer = world.fleet.wait_state(waiting, State.WAITING)
    told = f"{transfer!r} {world.fleet.client.history(waiting)} {world.fleet.report(waiting)}"
    told += world.fleet.workers[0].log_file.read_text()
    world.fleet.client.cancel(waiting)

    assert "SAS" in told, "else there was nothing to be told"
    for secret in (world.azurite.key, *(each.partition("sig=")[2] for each in (world.sas, world.old_sas))):
        assert secret
        assert secret not in told


def test_a_killed_worker_costs_what_it_had_in_flight(azurite: Azurite, tmp_path: Path) -> None:
    with (
        open_azure_route(azurite, CONTAINER, tmp_path) as route,
        Fleet(tmp_path, **route.settings) as fleet,
    ):
        victim = fleet.worker("victim", threads=2, wait=False)
        fleet.worker("heir", threads=2)
        victim.wait_ready()
        transfer_id = submit(fleet, route)
        held = wait_moving(fleet, route, transfer_id, victim)

        killed_at = time.time()
        victim.kill_group()
        route.calm()

        assert_arrived(fleet, route, transfer_id, kills=1)
        assert_sent_again(route, held, killed_at)
