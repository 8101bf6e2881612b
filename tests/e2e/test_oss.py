"""OSS objects in whole transfers: every way in and out, a worker that is killed, and secrets that stay secret."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import Transfer
from orchestrator.states import State
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.oss_route import open_oss_route
from tests.e2e.shared import KIB, MIB, QUICK_RETRY, noise
from tests.e2e.test_kill_anything import assert_arrived, assert_sent_again, submit, wait_moving
from tests.servers.oss_server import Credential, OssServer
from tests.servers.range_server import RangeServer
from tests.servers.s3_server import S3Server

BUCKET = "things"
PART = 100 * KIB
"""The least that OSS takes."""
LENT = Credential("STS.LENTCANARY", "SECRETCANARY", token="TOKENCANARY/+=")
OLD = Credential("STS.OLDCANARY", "SECRETCANARY", token="TOKENCANARY/+=", expires=0)


@pytest.fixture(scope="module")
def oss() -> Iterator[OssServer]:
    with OssServer() as server:
        server.make_bucket(BUCKET)
        server.credentials |= {each.access_key: each for each in (LENT, OLD)}
        yield server


class World:
    """One worker with a profile for each store, and for each way to sign."""

    def __init__(self, folder: Path, oss: OssServer, s3: S3Server) -> None:
        self.oss, self.s3 = oss, s3

        def keys(credential: Credential) -> dict[str, str]:
            names = {"access_key": credential.access_key, "secret_key": credential.secret_key}
            return {**oss.profile, **names, "security_token": credential.token}

        profiles: dict[str, dict[str, str]] = {
            "v4": oss.profile,
            "v1": {**oss.profile, "signature": "v1"},
            "lent": keys(LENT),
            "old": keys(OLD),
            "aws": s3.profile,
        }
        told = {f"profile_{name}__{key}": each for name, values in profiles.items() for key, each in values.items()}
        self.fleet = Fleet(folder, log_level="DEBUG", **told)

    def run(self, source: str, destination: str, **options: Any) -> Transfer:
        for role, place in (("source", source), ("destination", destination)):
            scheme = place.partition(":")[0]
            if scheme in ("oss", "s3"):
                options.setdefault(f"{role}_profile", "v4" if scheme == "oss" else "aws")
        options.setdefault("part_size", PART)
        return self.fleet.wait(self.fleet.client.submit(source, destination, retry=QUICK_RETRY, **options))

    def object(self, data: bytes | None = None) -> tuple[str, str]:
        """Key and URL of a fresh object, with ``data`` in it if given."""
        key = f"{uuid.uuid4().hex} ü%.bin"
        if data is not None:
            self.oss.bucket(BUCKET).put_object(key, data)
        return key, f"oss://{BUCKET}/{key}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, oss: OssServer, near_s3: S3Server) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("oss"), oss, near_s3)
    with world.fleet as fleet:
        fleet.worker("w1")
        yield world


@pytest.mark.parametrize("size_bytes", [0, 1, PART, 3 * PART + 1])
@pytest.mark.parametrize("profile", ["v4", "v1", "lent"])
def test_from_the_web_to_oss_and_on_to_a_file(world: World, tmp_path: Path, size_bytes: int, profile: str) -> None:
    data = noise(size_bytes)
    (key, url), target = world.object(), tmp_path / "target.bin"
    with RangeServer() as web:
        stored = world.run(web.serve("/x.bin", data), url, destination_profile=profile)

    done = world.run(url, str(target), source_profile=profile)

    assert world.oss.read(BUCKET, key) == data
    assert target.read_bytes() == data
    assert done.result["parts"] == max(1, -(-size_bytes // PART))
    assert stored.result["verified"] == "crc64ecma"


@pytest.mark.parametrize("size_bytes", [0, 1, 2 * PART])
def test_a_stream_of_unknown_size_becomes_an_object(world: World, size_bytes: int) -> None:
    data = noise(size_bytes)
    key, target = world.object()
    with RangeServer() as web:
        url = web.serve("/x.bin", data, ranges=False)
        web.fault("/x.bin", chunked=True)
        world.run(url, target)

    assert world.oss.read(BUCKET, key) == data


def test_from_oss_to_s3_and_back(world: World) -> None:
    data, middle_key = noise(2 * 5 * MIB + 17), f"{uuid.uuid4().hex}.bin"
    (_, source), middle, (key, target) = world.object(data), f"s3://near/{middle_key}", world.object()

    world.run(source, middle, part_size=5 * MIB)
    world.run(middle, target, part_size=5 * MIB)

    assert world.s3.read("near", middle_key) == data
    assert world.oss.read(BUCKET, key) == data


@pytest.mark.parametrize("profile", ["v4", "v1", "lent"])
def test_inside_an_account_the_service_copies(world: World, profile: str) -> None:
    data = noise(3 * PART + 17)
    (_, source), (key, target) = world.object(data), world.object()

    done = world.run(source, target, copy="server", source_profile=profile, destination_profile=profile)

    assert done.result["parts"] == 4
    assert world.oss.read(BUCKET, key) == data


def test_a_token_that_ran_out_makes_a_transfer_wait_and_no_secret_is_told(world: World) -> None:
    (_, source), (key, target) = world.object(noise(100)), world.object()

    waiting = world.fleet.client.submit(
        source, target, source_profile="old", destination_profile="lent", retry={**QUICK_RETRY, "wait_seconds": 60}
    )
    transfer = world.fleet.wait_state(waiting, State.WAITING)
    told = f"{transfer!r} {world.fleet.client.history(waiting)} {world.fleet.report(waiting)}"
    told += world.fleet.workers[0].log_file.read_text()
    world.fleet.client.cancel(waiting)

    assert "SecurityTokenExpired" in told, "else there was nothing to be told"
    assert "CANARY" not in told
    assert world.oss.secret_key not in told
    assert world.oss.read_if_there(BUCKET, key) is None


def test_a_cancelled_transfer_leaves_no_upload_and_the_object_that_was_there(world: World) -> None:
    key, target = world.object(b"the old one")
    with RangeServer() as web:
        web.throttle = KIB
        options: dict[str, Any] = {"on_exists": "overwrite", "destination_profile": "v4", "part_size": PART}
        transfer_id = world.fleet.client.submit(web.serve("/x.bin", noise(3 * PART)), target, **options)
        world.fleet.wait_leased(transfer_id)

        world.fleet.client.cancel(transfer_id)
        eventually(lambda: "cancelled" in world.fleet.kinds(transfer_id), "the end of the clean-up")

    assert world.oss.read(BUCKET, key) == b"the old one"
    assert world.oss.bucket(BUCKET).list_multipart_uploads(prefix=key).upload_list == []


def test_a_clock_20_minutes_off_stops_no_transfer(world: World, tmp_path: Path) -> None:
    data, target = noise(3 * PART + 1), tmp_path / "target.bin"
    with OssServer() as elsewhere, Fleet(tmp_path, **_profile("far", elsewhere)) as fleet:
        elsewhere.make_bucket(BUCKET)
        elsewhere.skew_seconds = 1200
        fleet.worker("w1")
        source = tmp_path / "source.bin"
        source.write_bytes(data)
        options: dict[str, Any] = {"part_size": PART, "retry": QUICK_RETRY}
        fleet.wait(fleet.client.submit(str(source), f"oss://{BUCKET}/k", destination_profile="far", **options))
        fleet.wait(fleet.client.submit(f"oss://{BUCKET}/k", str(target), source_profile="far", **options))

    assert target.read_bytes() == data


def _profile(name: str, server: OssServer) -> dict[str, str]:
    return {f"profile_{name}__{key}": value for key, value in server.profile.items()}


def test_a_killed_worker_costs_what_it_had_in_flight(oss: OssServer, tmp_path: Path) -> None:
    with open_oss_route(oss, BUCKET, tmp_path) as route, Fleet(tmp_path, **route.settings) as fleet:
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
