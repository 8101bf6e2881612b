"""Presigned plans at real stores: storing, reading, renewal, completion, abort, and what is refused."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from providers.base import ByteRange, UploadPlan
from providers.errors import (
    CompletionUnknown,
    CredentialExpired,
    Forbidden,
    InvalidValue,
    SignerRefused,
    SignerUnavailable,
    TransportError,
)
from providers.plans import PresignedDownload, PresignedUpload, SignedRequest, Signer
from providers.plans_signing import plan_presigned_download, plan_presigned_upload, presign_again
from tests.contract.objects import noise, read_all
from tests.contract.presigned_place import UPLOAD, Planned, put, send
from tests.servers.azurite import Azurite
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.range_server import RangeServer
from tests.servers.s3_server import S3Server
from tests.servers.signer_server import SignerServer

MIB = 1 << 20
PART = 5 * MIB
DATA = noise(2 * PART + 17)


class Store:
    """One fresh object at a store, with credentials that only the signing side has."""

    def __init__(self, url: str, profile: dict[str, str], read: Callable[[], bytes | None]) -> None:
        self.url, self.profile, self.read = url, profile, read

    def plan(self, **options: Any) -> PresignedUpload:
        return plan_presigned_upload(self.profile, self.url, len(DATA), **{"part_size": PART, **options})

    def sign(self, asks: dict[str, Any], **options: Any) -> dict[str, Any]:
        return presign_again(self.profile, self.url, asks, **options)


@pytest.fixture
def s3_store(s3_server: S3Server) -> Store:
    key = f"p/{uuid.uuid4().hex} ü.bin"
    return Store(f"s3://contract/{key}", s3_server.profile, lambda: s3_server.read("contract", key))


@pytest.fixture
def azure_store(azurite: Azurite) -> Store:
    name = f"p/{uuid.uuid4().hex} ü.bin"
    read = lambda: azurite.read_if_there("contract", name)  # noqa: E731
    return Store(f"azblob://contract/{name}", azurite.profile, read)


@pytest.fixture(params=["s3", "azure"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def signer(store: Store) -> Iterator[SignerServer]:
    with SignerServer(store.sign) as running:
        yield running


def test_an_object_is_stored_and_read_by_plans_alone(store: Store) -> None:
    """RC-118, RC-127, RC-128: no SDK, no credential on the side that moves the bytes."""
    planned = Planned(store.plan())
    upload = planned.destination().create_upload(UploadPlan(len(DATA), PART, 3))
    receipts = send(planned, DATA, (3, 1)) + send(planned, DATA, (2,))

    stat = planned.destination().complete_upload(upload, receipts)

    assert store.read() == DATA
    assert stat.size_bytes == len(DATA)
    reading = Planned(plan_presigned_download(store.profile, store.url)).source()
    found = reading.stat()
    assert found.size_bytes == len(DATA)
    assert read_all(reading.read_range(ByteRange(7, PART + 9), validator=found.validator)) == DATA[7 : PART + 9]
    known = Planned(plan_presigned_download(store.profile, store.url, total_size=len(DATA))).source()
    assert known.stat().validator == found.validator


def test_a_source_of_another_size_is_refused_before_a_byte(store: Store) -> None:
    with pytest.raises(InvalidValue):
        Planned(store.plan()).destination().create_upload(UploadPlan(len(DATA) + 1, PART, 3))


def test_parts_are_signed_just_in_time_once_for_all_who_ask(store: Store, signer: SignerServer) -> None:
    """RC-95: 8 threads of 3 processes need the first page at once; one call signs it."""
    planned = Planned(store.plan(signer={"url": signer.url}, sign_parts=0))
    receipts: dict[int, Any] = {}

    def move(number: int) -> None:
        receipts[number] = put(planned.destination(), planned.plan, DATA, number)  # type: ignore[arg-type]

    threads = [threading.Thread(target=move, args=(number,)) for number in (1, 2, 3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    planned.destination().complete_upload(UPLOAD, list(receipts.values()))

    assert store.read() == DATA
    numbers = [part["offset"] for asks in signer.asked for part in asks["parts"]]
    assert len(numbers) == len(set(numbers)), "each part was signed once"
    assert {each["reason"] for each in signer.asked} == {"missing"}


def test_a_url_that_is_about_to_end_is_signed_anew_in_time(store: Store, signer: SignerServer) -> None:
    planned = Planned(store.plan(signer={"url": signer.url}, expires_seconds=30))

    receipts = send(planned, DATA, (1, 2, 3))
    planned.destination().complete_upload(UPLOAD, receipts)

    assert store.read() == DATA
    assert signer.asked[0]["reason"] == "expiring"
    assert signer.asked[0]["transfer_id"] == "t1"
    assert [each for each in signer.asked if each.get("requests")], "the completion was signed anew too"


def test_while_the_signer_is_down_good_urls_are_used_and_dead_ones_wait(store: Store, signer: SignerServer) -> None:
    good = Planned(store.plan(signer={"url": signer.url}, expires_seconds=30))
    none = Planned(store.plan(signer={"url": signer.url}, sign_parts=0))
    signer.is_down = True

    send(good, DATA, (1,))
    with pytest.raises(SignerUnavailable):
        send(none, DATA, (1,))
    signer.is_down = False
    send(none, DATA, (1,))

    assert signer.refused >= 2


def test_without_a_signer_an_ended_url_waits_and_a_new_plan_goes_on(store: Store) -> None:
    planned = Planned(store.plan(expires_seconds=1))
    receipts = send(planned, DATA, (1,))
    deadline = time.time() + 2.1
    while time.time() < deadline:
        threading.Event().wait(0.1)

    with pytest.raises(CredentialExpired):
        send(planned, DATA, (2,))
    assert isinstance(planned.plan, PresignedUpload)
    asks: dict[str, Any] = {
        "upload_id": planned.plan.upload_id,
        "chunk_size": PART,
        "requests": ["complete_request", "head_request"],
    }
    asks["parts"] = [
        {"part_number": each.part_number, "offset": each.offset, "size": each.size} for each in planned.plan.parts
    ]
    fresh = store.sign(asks)
    planned.give(PresignedUpload.model_validate({**planned.plan.model_dump(), **fresh}))
    receipts += send(planned, DATA, (2, 3))
    planned.destination().complete_upload(UPLOAD, receipts)

    assert store.read() == DATA


@pytest.mark.parametrize(
    "lie",
    [
        {"part_number": 9},
        {"offset": 1},
        {"size": PART - 1},
        {"url": "file:///etc/passwd"},
        {"url": "http://user:pw@127.0.0.1/"},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"more": 1},
    ],
    ids=["number", "offset", "size", "file", "user", "framing", "more"],
)
def test_a_reply_that_changes_what_is_fixed_is_refused(azure_store: Store, lie: dict[str, Any]) -> None:
    def answer(asks: dict[str, Any]) -> dict[str, Any]:
        reply = azure_store.sign(asks)
        reply["parts"][0] |= lie
        return reply

    with SignerServer(answer) as signer:
        planned = Planned(azure_store.plan(signer={"url": signer.url}, sign_parts=0))
        with pytest.raises(SignerRefused) as raised:
            send(planned, DATA, (1,))

    assert "sig=" not in str(raised.value)


def test_a_refused_url_is_signed_anew_once_and_then_the_refusal_counts(s3_store: Store, s3_server: S3Server) -> None:
    with LoggingProxy(s3_server.endpoint) as proxy, SignerServer(lambda asks: sign(asks)) as signer:
        far = Store(s3_store.url, {**s3_store.profile, "endpoint": proxy.endpoint}, s3_store.read)
        sign = far.sign
        planned = Planned(far.plan(signer={"url": signer.url}))
        proxy.answer("PUT", "partNumber=1", status=403, body=b"<Error><Code>AccessDenied</Code></Error>", times=2)

        with pytest.raises(TransportError):
            send(planned, DATA, (1,))
        with pytest.raises(Forbidden):
            send(planned, DATA, (1,))

    assert [each["reason"] for each in signer.asked] == ["refused"]


def test_a_lost_reply_to_the_completion_is_repeated_and_then_proven(s3_store: Store, s3_server: S3Server) -> None:
    """The store forgot the upload, since it joined it: the ETag of the object is that of our parts."""
    with LoggingProxy(s3_server.endpoint) as proxy:
        far = Store(s3_store.url, {**s3_store.profile, "endpoint": proxy.endpoint}, s3_store.read)
        planned = Planned(far.plan())
        receipts = send(planned, DATA)
        proxy.drop_reply("POST", "uploadId=")

        stat = planned.destination().complete_upload(UPLOAD, receipts)

        assert len(proxy.requests("POST", "uploadId=")) == 2
    assert stat.size_bytes == len(DATA)
    assert s3_store.read() == DATA


def test_without_a_head_request_a_lost_completion_is_said_to_be_unknown(s3_store: Store, s3_server: S3Server) -> None:
    with LoggingProxy(s3_server.endpoint) as proxy:
        far = Store(s3_store.url, {**s3_store.profile, "endpoint": proxy.endpoint}, s3_store.read)
        planned = Planned(far.plan().model_copy(update={"head_request": None}))
        receipts = send(planned, DATA)
        proxy.drop_reply("POST", "uploadId=", times=2)

        with pytest.raises(CompletionUnknown) as raised:
            planned.destination().complete_upload(UPLOAD, receipts)

        assert len(proxy.requests("POST", "uploadId=")) == 2
    assert raised.value.code == "completion_unknown"


def test_a_completed_object_that_nobody_may_look_at_is_complete_and_not_verified(
    azure_store: Store, azurite: Azurite
) -> None:
    """Nothing proves it, and the completion is not sent again for that."""
    with LoggingProxy(azurite.origin) as proxy:
        endpoint = azurite.endpoint.replace(azurite.origin, proxy.endpoint)
        far = Store(azure_store.url, {**azure_store.profile, "endpoint": endpoint}, azure_store.read)
        planned = Planned(far.plan())
        receipts = send(planned, DATA)
        proxy.answer("HEAD", status=403)

        stat = planned.destination().complete_upload(UPLOAD, receipts)

        assert len(proxy.requests("PUT", "comp=blocklist")) == 1
    assert stat.metadata == {"verified": "no"}
    assert azure_store.read() == DATA


def test_an_aborted_upload_is_gone_and_aborting_again_is_fine(s3_store: Store, s3_server: S3Server) -> None:
    """RC-98."""
    planned = Planned(s3_store.plan())
    send(planned, DATA, (1,))

    planned.destination().abort_upload(UPLOAD)
    planned.destination().abort_upload(UPLOAD)

    key = s3_store.url.partition("contract/")[2]
    assert not s3_server.client().list_multipart_uploads(Bucket="contract", Prefix=key).get("Uploads")


def test_resumed_parts_are_not_sent_again(s3_store: Store, s3_server: S3Server) -> None:
    """RC-96."""
    with LoggingProxy(s3_server.endpoint) as proxy:
        far = Store(s3_store.url, {**s3_store.profile, "endpoint": proxy.endpoint}, s3_store.read)
        first = Planned(far.plan())
        (stored,) = send(first, DATA, (2,))
        done = [{"offset": PART, "size": PART, "etag": stored.etag, "part_number": 2}]
        again = PresignedUpload.model_validate({**first.plan.model_dump(), "resumed_parts": done})
        proxy.log.clear()

        receipts = send(Planned(again), DATA)
        Planned(again).destination().complete_upload(UPLOAD, receipts)

        assert sorted(each.part_number or 0 for each in proxy.requests("PUT")) == [1, 3]
    assert s3_store.read() == DATA


def test_json_completion_lists_the_parts_and_the_given_headers_arrive() -> None:
    """RC-91, RC-97: exactly the given method and headers; parts ascend by number."""
    with RangeServer() as web:
        base = web.serve("/o", b"").removesuffix("/o")
        parts = [
            {
                "part_number": 10 * index + 3,
                "provider_part_id": f"id{index}",
                "offset": index * 10,
                "size": 10,
                "url": f"{base}/part/{index}?sig=1",
                "headers": {"X-Signed": f"v{index}"},
            }
            for index in range(2)
        ]
        request = SignedRequest(method="PUT", url=f"{base}/done?sig=1", headers={"X-Done": "yes"})
        plan = PresignedUpload.model_validate(
            {"total_size": 20, "chunk_size": 10, "upload_id": "u", "parts": parts}
        ).model_copy(update={"complete_request": request, "complete_body_builder": "json"})
        planned = Planned(plan.check())

        receipts = send(planned, bytes(range(20)), (2,)) + send(planned, bytes(range(20)), (1,))
        planned.destination().complete_upload(UPLOAD, receipts)

        puts = {each.path: each.headers for each in web.requests if each.method == "PUT"}
        done = web.objects["/done"].content
    assert isinstance(done, bytes)
    said = json.loads(done)
    assert [each["part_number"] for each in said["parts"]] == [3, 13]
    assert said["parts"][1]["provider_part_id"] == "id1"
    assert {path: told.get("x-signed") for path, told in puts.items() if "part" in path} == {
        "/part/0?sig=1": "v0",
        "/part/1?sig=1": "v1",
    }
    assert puts["/done?sig=1"]["x-done"] == "yes"
    assert "authorization" not in puts["/done?sig=1"]


def test_without_a_completion_success_is_local_and_not_verified(s3_store: Store) -> None:
    planned = Planned(s3_store.plan().model_copy(update={"complete_request": None, "complete_body_builder": "none"}))

    stat = planned.destination().complete_upload(UPLOAD, send(planned, DATA))

    assert stat.metadata == {"verified": "no"}
    assert not stat.validator.pins


def test_a_range_plan_is_renewed_between_and_no_request_mixes_two() -> None:
    """RC-99: each reply of the signer has a URL and a header of its own turn, and lasts for a moment."""
    turns = itertools.count(1)
    with RangeServer(throttle=16 * MIB) as web:
        base = web.serve("/o.bin", DATA)

        def answer(asks: dict[str, Any]) -> dict[str, Any]:
            assert asks["total_size"] == len(DATA)
            turn = str(next(turns))
            ends = time.time() + 0.1
            return {
                "range_url": f"{base}?turn={turn}",
                "range_headers": {"X-Turn": turn},
                "range_expires_at_unix_secs": ends,
            }

        with SignerServer(answer) as signer:
            plan = PresignedDownload(
                range_url=f"{base}?turn=0",
                range_headers={"X-Turn": "0"},
                total_size=len(DATA),
                range_expires_at_unix_secs=time.time() + 0.1,
                refresh_before_secs=0.01,
                signer=Signer(url=signer.url),
            )
            source = Planned(plan).source()
            validator = source.stat().validator
            spans = [ByteRange(at, min(at + MIB, len(DATA))) for at in range(0, len(DATA), MIB)] * 8
            with ThreadPoolExecutor(8) as pool:
                read = list(pool.map(lambda span: read_all(source.read_range(span, validator=validator)), spans))

    assert b"".join(read) == DATA * 8
    seen = [(each.path.partition("turn=")[2], each.headers.get("x-turn")) for each in web.requests]
    assert [path for path, _ in seen] == [header for _, header in seen]
    assert 1 < len(set(seen)) < len(spans), "renewed, and not once for each"


def test_a_signer_that_names_another_size_of_the_source_is_refused(azure_store: Store) -> None:
    def answer(asks: dict[str, Any]) -> dict[str, Any]:
        return {**azure_store.sign(asks), "total_size": 1}

    with SignerServer(answer) as signer:
        plan = PresignedDownload(
            range_url="http://127.0.0.1:1/x?sig=a",
            total_size=5,
            range_expires_at_unix_secs=time.time() + 5,
            signer=Signer(url=signer.url),
        )
        with pytest.raises(SignerRefused):
            Planned(plan).source().stat()


def test_a_plan_of_several_pages_is_signed_page_by_page_and_completed_in_order(azure_store: Store) -> None:
    """250 parts, a batch at a time, three of them sent first from three pages; each part keeps its own number."""
    data = noise(250 * 100 - 1)
    with SignerServer(azure_store.sign) as signer:
        plan = plan_presigned_upload(
            azure_store.profile,
            azure_store.url,
            len(data),
            part_size=100,
            signer={"url": signer.url, "batch_parts": 50},
            sign_parts=130,
        )
        planned = Planned(plan)
        to = planned.destination()
        receipts = [put(to, plan, data, number) for number in (250, 101, 1)]
        receipts += [put(to, plan, data, number) for number in range(1, 251) if number not in (250, 101, 1)]
        planned.destination().complete_upload(UPLOAD, receipts)

    assert azure_store.read() == data
    assert max(len(asks["parts"]) for asks in signer.asked) == 50
    asked = [each["part_number"] for asks in signer.asked for each in asks["parts"]]
    assert sorted(asked) == list(range(130, 250)), "what was signed at first is not signed again"
