"""Presigned transfers by whole fleets: short-lived URLs, a signer that is away, kills, and signatures nobody sees."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DuplicateTransfer, InvalidSpec
from orchestrator.states import State
from providers.plans import PresignedUpload
from providers.plans_signing import plan_presigned_download, plan_presigned_upload, presign_again
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.shared import MIB, QUICK_RETRY, noise
from tests.servers.azurite import Azurite
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.s3_server import S3Server
from tests.servers.signer_server import KEY, SignerServer

PART = 5 * MIB
RETRY = {**QUICK_RETRY, "wait_seconds": 1}
SEALED = "a-key-for-plans-at-rest"


class Bucket:
    """One object behind a proxy that can be slow, and the application's backend that signs for it."""

    def __init__(self, server: S3Server, proxy: LoggingProxy) -> None:
        self.server, self.proxy = server, proxy
        self.key = f"{uuid.uuid4().hex}.bin"
        self.url = f"s3://near/{self.key}"
        self.profile = {**server.profile, "endpoint": proxy.endpoint}
        self.lasts = 900
        self.signatures: set[str] = set()

    def plan(self, size: int, **options: Any) -> PresignedUpload:
        made = plan_presigned_upload(
            self.profile, self.url, size, part_size=PART, expires_seconds=self.lasts, **options
        )
        self._note(made.to_json())
        return made

    def sign(self, asks: dict[str, Any]) -> dict[str, Any]:
        reply = presign_again(self.profile, self.url, asks, expires_seconds=self.lasts)
        self._note(json.dumps(reply))
        return reply

    def _note(self, text: str) -> None:
        self.signatures |= {each.partition('"')[0].partition("&")[0] for each in text.split("X-Amz-Signature=")[1:]}

    @property
    def data(self) -> bytes:
        return self.server.read("near", self.key)

    def uploads(self) -> list[Any]:
        found: list[Any] = (
            self.server.client().list_multipart_uploads(Bucket="near", Prefix=self.key).get("Uploads", [])
        )
        return found


@pytest.fixture
def bucket(near_s3: S3Server) -> Iterator[Bucket]:
    with LoggingProxy(near_s3.endpoint) as proxy:
        yield Bucket(near_s3, proxy)


@pytest.fixture
def signer(bucket: Bucket) -> Iterator[SignerServer]:
    with SignerServer(bucket.sign) as running:
        yield running


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, log_level="DEBUG", profile_signer__signer_key=KEY) as running:
        yield running


def source_of(folder: Path, data: bytes) -> str:
    path = folder / "source.bin"
    path.write_bytes(data)
    return str(path)


def kept(fleet: Fleet, transfer_id: str) -> dict[bytes, bytes]:
    """What the ledger holds of the plan."""
    found: Any = fleet.redis.client().hgetall(f"{fleet.ledger.prefix(transfer_id)}p:{transfer_id}")
    return dict(found)


def all_told(fleet: Fleet, transfer_id: str) -> str:
    """Everything that anybody is shown: reprs, events, errors, logs, the ledger but for the plan, messages."""
    client = fleet.redis.client()
    told = [repr(fleet.client.get(transfer_id)), repr(fleet.client.list()), repr(fleet.client.history(transfer_id))]
    told += [repr(each) for each in fleet.client.events(transfer_id, follow=False)]
    told += [repr(fleet.ledger.record(transfer_id).fields), fleet.report(transfer_id)]
    told += [each.log_file.read_text("utf-8", "replace") for each in fleet.workers]
    told += [repr(client.lrange(key, 0, -1)) for key in client.scan_iter("*") if client.type(key) == b"list"]
    return "\n".join(told)


def assert_nothing_told(fleet: Fleet, transfer_id: str, bucket: Bucket) -> None:
    told = all_told(fleet, transfer_id)
    assert bucket.key in told, "else there was nothing to be told"
    assert bucket.signatures
    for secret in (*bucket.signatures, "X-Amz-", KEY, "-token"):
        assert secret not in told, secret


def test_a_long_upload_over_short_urls_survives_a_kill(
    fleet: Fleet, bucket: Bucket, signer: SignerServer, tmp_path: Path
) -> None:
    """What a terabyte over URLs of 15 minutes is, in small: URLs live 5 s, the transfer takes three times as long."""
    data = noise(11 * PART + 17)
    bucket.lasts = 5
    bucket.proxy.bytes_per_second = 2 * MIB
    victim = fleet.worker("victim", threads=1)
    fleet.worker("heir", threads=2)
    plan = bucket.plan(
        len(data), signer={"url": signer.url, "batch_parts": 4}, sign_parts=0, refresh_before_seconds=1.0
    )

    began = time.monotonic()
    transfer_id = fleet.client.submit(
        source_of(tmp_path, data), plan, destination_profile="signer", parts_in_flight=2, retry=RETRY
    )
    fleet.wait_leased(transfer_id, by=victim.pid)
    victim.kill_group()
    fleet.wait(transfer_id, seconds=100)

    assert bucket.data == data
    assert time.monotonic() - began > 2 * bucket.lasts
    batches = [asks for asks in signer.asked if asks["parts"]]
    assert len(batches) > 3, "signed just in time, not all at once"
    assert {asks["transfer_id"] for asks in signer.asked} == {transfer_id}
    assert any(asks.get("requests") == ["complete_request"] for asks in signer.asked)
    assert not [each for each in bucket.proxy.requests("PUT") if each.status == 403], "no URL was used too late"
    assert_nothing_told(fleet, transfer_id, bucket)
    assert not kept(fleet, transfer_id), "signed URLs go with the transfer"


def test_a_signer_that_is_away_makes_the_transfer_wait_until_it_is_back(
    fleet: Fleet, bucket: Bucket, signer: SignerServer, tmp_path: Path
) -> None:
    data = noise(3 * PART)
    fleet.worker("w1")
    plan = bucket.plan(len(data), signer={"url": signer.url}, sign_parts=1)
    signer.is_down = True

    transfer_id = fleet.client.submit(
        source_of(tmp_path, data), plan, destination_profile="signer", parts_in_flight=1, retry=RETRY
    )
    waiting = fleet.wait_state(transfer_id, State.WAITING)
    told = all_told(fleet, transfer_id)
    signer.is_down = False
    fleet.wait(transfer_id)

    assert waiting.reason == "signer"
    assert waiting.error["number"] == 117
    assert bucket.data == data
    assert len(bucket.proxy.requests("PUT", "partNumber=1&")) == 1, "the part that was stored was kept"
    assert KEY not in told
    assert_nothing_told(fleet, transfer_id, bucket)


def test_an_ended_plan_without_a_signer_waits_keeps_its_parts_and_takes_a_new_plan(
    fleet: Fleet, bucket: Bucket, tmp_path: Path
) -> None:
    data = noise(4 * PART)
    fleet.worker("w1")
    bucket.lasts = 4
    bucket.proxy.bytes_per_second = 2 * MIB
    plan = bucket.plan(len(data))

    transfer_id = fleet.client.submit(source_of(tmp_path, data), plan, parts_in_flight=1, retry=RETRY)
    waiting = fleet.wait_state(transfer_id, State.WAITING)
    eventually(lambda: not fleet.live_leases(transfer_id), "no part is in flight")
    stored = fleet.client.get(transfer_id).progress.parts_done
    bucket.lasts, bucket.proxy.bytes_per_second = 900, None
    asks: dict[str, Any] = {
        "upload_id": plan.upload_id,
        "chunk_size": PART,
        "requests": ["complete_request", "head_request"],
    }
    asks["parts"] = [{"part_number": n + 1, "offset": n * PART, "size": PART} for n in range(4)]
    fresh = PresignedUpload.model_validate({**plan.model_dump(), **bucket.sign(asks)})
    fleet.client.renew_plan(transfer_id, fresh)
    fleet.wait(transfer_id)

    assert waiting.reason == "credential"
    assert waiting.error["number"] == 117
    assert stored >= 1
    assert bucket.data == data
    assert_nothing_told(fleet, transfer_id, bucket)


def test_a_plan_of_another_object_is_no_renewal(fleet: Fleet, bucket: Bucket, tmp_path: Path) -> None:
    plan = bucket.plan(2 * PART)
    transfer_id = fleet.client.submit_paused(source_of(tmp_path, noise(2 * PART)), plan)
    before = kept(fleet, transfer_id)

    for field, other in (
        ("plan.total_size", {"total_size": 2 * PART - 1, "parts": ()}),
        ("plan.object", {"target": "https://elsewhere.test/key"}),
        ("plan.upload_id", {"upload_id": "another"}),
    ):
        parts = {"signer": {"name": "mine"}} if "parts" in other else {}
        with pytest.raises(InvalidSpec) as raised:
            fleet.client.renew_plan(
                transfer_id, PresignedUpload.model_validate({**plan.model_dump(), **parts, **other})
            )
        assert raised.value.field == field

    assert kept(fleet, transfer_id) == before


def test_cancel_aborts_the_upload_once_and_forgets_the_plan(fleet: Fleet, bucket: Bucket, tmp_path: Path) -> None:
    """RC-98."""
    fleet.worker("w1")
    bucket.proxy.bytes_per_second = MIB
    transfer_id = fleet.client.submit(source_of(tmp_path, noise(3 * PART)), bucket.plan(3 * PART), retry=RETRY)
    fleet.wait_leased(transfer_id)

    fleet.client.cancel(transfer_id)
    eventually(lambda: "cancelled" in fleet.kinds(transfer_id), "the end of the clean-up")

    assert len(bucket.proxy.requests("DELETE")) == 1
    assert not bucket.uploads()
    eventually(lambda: not kept(fleet, transfer_id), "the plan is forgotten")


def test_what_is_refused_is_refused_by_field_before_a_byte_and_leaves_nothing(
    fleet: Fleet, bucket: Bucket, tmp_path: Path
) -> None:
    plan = bucket.plan(2 * PART)
    source = source_of(tmp_path, noise(2 * PART))
    gap = plan.model_copy(update={"parts": (plan.parts[1],)})
    signed = {**plan.model_dump(), "signer": {"url": "https://app.test/"}}
    refusals: list[tuple[Any, dict[str, Any], str]] = [
        (gap, {}, "destination.parts[0].offset"),
        (plan, {"part_size": PART + 1}, "part_size"),
        (PresignedUpload.model_validate(signed), {}, "destination_profile"),
        (f"presigned+{plan.shown}?X-Amz-Signature=x", {}, "destination"),
        (plan_presigned_download(bucket.profile, bucket.url), {}, "destination"),
    ]
    for destination, options, field in refusals:
        with pytest.raises(InvalidSpec) as raised:
            fleet.client.submit(source, destination, **options)
        assert raised.value.field == field
        assert "X-Amz-Signature" not in str(raised.value)

    first = fleet.client.submit_paused(source, plan)
    with pytest.raises(DuplicateTransfer):
        fleet.client.submit(source, bucket.plan(2 * PART))
    outcomes = fleet.client.submit_many([(source, bucket.plan(2 * PART))])

    assert isinstance(outcomes[0].error, DuplicateTransfer)
    assert [key.decode().rpartition(":")[2] for key in fleet.redis.client().scan_iter("hl:*:p:*")] == [first]
    assert fleet.redis.client().ttl(f"{fleet.ledger.prefix(first)}p:{first}") == -1


def test_plans_are_encrypted_at_rest_and_download_what_they_name(
    azurite_with_things: Azurite, bucket: Bucket, tmp_path: Path
) -> None:
    """From a blob by SAS to a file, and from a blob by SAS to S3 by presigned parts: no credential in the fleet."""
    data = noise(2 * PART + 1)
    name, target = f"{uuid.uuid4().hex}.bin", tmp_path / "target.bin"
    azurite_with_things.blob("things", name).upload_blob(data)
    reading = plan_presigned_download(azurite_with_things.profile, f"azblob://things/{name}")
    with Fleet(tmp_path, secret_key=SEALED) as fleet:
        copied = fleet.client.submit_paused(reading, bucket.plan(len(data)), retry=RETRY)
        texts = b"".join(kept(fleet, copied).values())
        fleet.worker("w1")
        fleet.client.resume(copied)
        downloaded = fleet.client.download(reading, target, part_size=MIB, retry=RETRY)
        done = fleet.wait(copied)
        fleet.wait(downloaded)

        assert_nothing_told(fleet, copied, bucket)
        assert "sig=" not in all_told(fleet, downloaded)
    assert texts
    assert b"X-Amz" not in texts
    assert b"sig=" not in texts
    assert b"http" not in texts
    assert bucket.data == data
    assert target.read_bytes() == data
    assert done.result["verified"] == "etag"


@pytest.fixture(scope="module")
def azurite_with_things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        server.make_container("things")
        yield server
