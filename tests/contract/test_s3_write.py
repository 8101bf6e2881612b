"""Writing to a real S3 server that checks every signature; objects are read back by boto3."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace

import pytest
from awscrt.checksums import crc64nvme

from providers.base import (
    BytesBody,
    CopiesRange,
    ListsParts,
    ListsUploads,
    Options,
    PartReceipt,
    ReadsBack,
)
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    InvalidPart,
    UploadNotFound,
)
from providers.s3 import S3Destination
from tests.contract.s3_place import (
    BUCKET,
    FIRST,
    LAST,
    MIB,
    SECOND,
    THREE,
    Place,
    error_xml,
    part,
    plan_for,
    put,
    upload_all,
)
from tests.servers.logging_proxy import LoggingProxy

pytest_plugins = ["tests.contract.s3_fixtures"]


def test_the_destination_has_the_skills_it_names(s3: Place) -> None:
    to = s3.destination()

    assert all(isinstance(to, skill) for skill in (ListsParts, ListsUploads, CopiesRange, ReadsBack))


# multipart


def test_parts_sent_out_of_order_are_joined_by_number(s3: Place) -> None:
    to = s3.destination(content_type="text/x-parts")
    upload = to.create_upload(plan_for(THREE))
    receipts = [put(to, upload, number, THREE[number - 1]) for number in (3, 1, 2)]
    assert not s3.is_there

    stat = to.complete_upload(upload, receipts)

    assert s3.read() == FIRST + SECOND + LAST
    assert stat.size_bytes == len(FIRST + SECOND + LAST)
    assert stat.checksum == f"crc64nvme:{crc64nvme(FIRST + SECOND + LAST):016x}"
    assert stat.metadata == {"haulage-id": "t1"}
    assert s3.head()["ContentType"] == "text/x-parts"


def test_the_etag_can_be_computed_from_the_receipts(s3: Place) -> None:
    to = s3.destination()
    stat = to.complete_upload(*upload_all(to, THREE))

    digests = b"".join(hashlib.md5(body).digest() for body in THREE)  # noqa: S324  # it is S3's own way
    assert stat.etag == f'"{hashlib.md5(digests).hexdigest()}-3"'  # noqa: S324


def test_a_part_sent_again_replaces_the_first(s3: Place) -> None:
    to = s3.destination()
    upload = to.create_upload(plan_for((FIRST, LAST)))
    put(to, upload, 1, SECOND)
    receipts = [put(to, upload, 1, FIRST), put(to, upload, 2, LAST)]

    to.complete_upload(upload, receipts)

    assert s3.read() == FIRST + LAST


def test_a_receipt_holds_the_checksum_the_store_computed(s3: Place) -> None:
    to = s3.destination()
    upload = to.create_upload(plan_for(THREE))

    receipt = to.put_part(upload, part(3, LAST), BytesBody(LAST))

    assert receipt.crc64nvme == crc64nvme(LAST)


def test_parts_may_be_sent_by_many_threads(s3: Place) -> None:
    to = s3.destination()
    upload = to.create_upload(plan_for(THREE))
    receipts: list[PartReceipt] = []
    threads = [
        threading.Thread(target=lambda n=number, b=body: receipts.append(put(to, upload, n, b)))
        for number, body in enumerate(THREE, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    to.complete_upload(upload, receipts)

    assert s3.read() == FIRST + SECOND + LAST


def test_listed_parts_are_what_was_sent_over_several_pages(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, THREE)
    paging = S3Destination(to.account, BUCKET, s3.key, Options(transfer_id="t1"), page=1)

    listed = paging.list_parts(upload)

    assert [(each.number, each.size_bytes, each.etag) for each in listed] == [
        (each.number, each.size_bytes, each.etag) for each in receipts
    ]


def test_open_uploads_of_exactly_this_key_are_listed_with_their_time(s3: Place) -> None:
    to = s3.destination()
    longer = Place(s3.server, f"{s3.key}.longer").destination()
    mine = {to.create_upload(plan_for(THREE)) for _ in range(3)}
    other = longer.create_upload(plan_for(THREE))
    paging = S3Destination(to.account, BUCKET, s3.key, Options(), page=1)

    listed = paging.list_uploads()
    below = paging.list_sessions(s3.key)

    assert {upload for upload, _ in listed} == mine
    assert {upload: key for key, upload, _ in below} == {**dict.fromkeys(mine, s3.key), other: f"{s3.key}.longer"}
    assert all(abs(created - time.time()) < 60 for _, created in listed)


def test_an_aborted_upload_is_gone_and_aborting_again_is_fine(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, THREE)

    to.abort_upload(upload)
    to.abort_upload(upload)

    with pytest.raises(UploadNotFound):
        put(to, upload, 1, FIRST)
    with pytest.raises(UploadNotFound):
        to.list_parts(upload)
    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)
    assert to.list_uploads() == []
    assert not s3.is_there


def test_completing_twice_finds_the_object_made_the_first_time(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, THREE)

    first = to.complete_upload(upload, receipts)
    second = to.complete_upload(upload, receipts)

    assert first == second
    assert s3.read() == FIRST + SECOND + LAST


@pytest.mark.parametrize("on_exists", [None, "fail"])
def test_a_lost_reply_to_complete_is_made_up_for_by_asking_again(
    s3_proxied: Place, s3_proxy: LoggingProxy, on_exists: str | None
) -> None:
    to = s3_proxied.destination(on_exists=on_exists)
    upload, receipts = upload_all(to, THREE)
    s3_proxy.drop_reply("POST", "uploadId=")

    with pytest.raises(Exception, match="complete") as lost:
        to.complete_upload(upload, receipts)
    stat = to.complete_upload(upload, receipts)

    assert lost.value.code == "transport"  # type: ignore[attr-defined]
    assert stat.size_bytes == len(FIRST + SECOND + LAST)
    assert s3_proxied.read() == FIRST + SECOND + LAST


@pytest.mark.parametrize("proof", ["checksum", "etag", "metadata"])
def test_an_upload_the_store_forgot_is_known_by_its_object(
    s3_proxied: Place, s3_proxy: LoggingProxy, proof: str
) -> None:
    to = s3_proxied.destination()
    upload, receipts = upload_all(to, THREE)
    to.complete_upload(upload, receipts)
    if proof != "checksum":
        receipts = [replace(each, crc64nvme=None) for each in receipts]
    if proof == "metadata":
        receipts = [replace(each, etag='"opaque"') for each in receipts]
    else:
        to = s3_proxied.destination(transfer_id="")
    s3_proxy.answer("POST", "uploadId=", status=404, body=error_xml("NoSuchUpload"))

    assert to.complete_upload(upload, receipts).size_bytes == len(FIRST + SECOND + LAST)


def test_a_foreign_object_of_the_same_size_is_no_proof_of_ours(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    to = s3_proxied.destination()
    upload, receipts = upload_all(to, THREE)
    s3_proxied.write(SECOND + FIRST + LAST)
    s3_proxy.answer("POST", "uploadId=", status=404, body=error_xml("NoSuchUpload"))

    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


def test_a_wrong_checksum_keeps_the_object_from_appearing(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, THREE)
    receipts[1] = replace(receipts[1], crc64nvme=crc64nvme(FIRST))

    with pytest.raises(ChecksumMismatch):
        to.complete_upload(upload, receipts)

    assert not s3.is_there


def test_a_wrong_etag_is_an_invalid_part(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, THREE)
    receipts[0] = replace(receipts[0], etag=receipts[1].etag)

    with pytest.raises(InvalidPart):
        to.complete_upload(upload, receipts)


def test_a_part_below_the_minimum_is_an_invalid_part(s3: Place) -> None:
    to = s3.destination()
    upload = to.create_upload(plan_for(THREE))
    receipts = [put(to, upload, 1, LAST), put(to, upload, 2, LAST)]

    with pytest.raises(InvalidPart):
        to.complete_upload(upload, receipts)


def test_receipts_with_a_gap_are_refused_before_anything_is_sent(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, THREE)

    with pytest.raises(InvalidPart):
        to.complete_upload(upload, [receipts[0], receipts[2]])


# a single put


@pytest.mark.parametrize("body", [b"", b"1", LAST, bytes(2 * MIB)], ids=["0 B", "1 B", "7 B", "2 MiB"])
def test_one_part_is_one_put(s3_proxied: Place, s3_proxy: LoggingProxy, body: bytes) -> None:
    to = s3_proxied.destination(content_type="text/x-one")
    upload, receipts = upload_all(to, (body,))

    stat = to.complete_upload(upload, receipts)

    assert s3_proxied.read() == body
    assert (stat.size_bytes, stat.metadata) == (len(body), {"haulage-id": "t1"})
    assert s3_proxied.head()["ContentType"] == "text/x-one"
    assert [each.method for each in s3_proxy.log if each.method != "HEAD"] == ["PUT"]


def test_aborting_a_single_put_never_touches_the_object(s3: Place) -> None:
    to = s3.destination()
    upload, _ = upload_all(to, (LAST,))

    to.abort_upload(upload)

    assert s3.read() == LAST


def test_a_single_put_lists_its_part_only_if_the_object_is_this_transfers(s3: Place) -> None:
    upload, (receipt,) = upload_all(s3.destination(), (LAST,))

    (listed,) = s3.destination().list_parts(upload)
    assert (listed.number, listed.size_bytes, listed.etag) == (1, len(LAST), receipt.etag)
    assert s3.destination(transfer_id="t2").list_parts(upload) == []


def test_a_single_put_that_somebody_replaced_is_not_ours(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, (LAST,))
    s3.write(b"THE END")

    with pytest.raises(ChecksumMismatch):
        to.complete_upload(upload, receipts)


def test_a_single_put_that_somebody_removed_is_gone(s3: Place) -> None:
    to = s3.destination()
    upload, receipts = upload_all(to, (LAST,))
    s3.server.client().delete_object(Bucket=BUCKET, Key=s3.key)

    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


# what is there already


@pytest.mark.parametrize("on_exists", ["fail", "skip"])
@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["single put", "multipart"])
def test_an_object_that_came_first_is_never_replaced(s3: Place, bodies: tuple[bytes, ...], on_exists: str) -> None:
    to = s3.destination(on_exists=on_exists)
    assert to.existing() is None
    s3.write(b"first")

    with pytest.raises(DestinationExists):
        to.complete_upload(*upload_all(to, bodies))

    assert s3.read() == b"first"
    found = to.existing()
    assert found is not None
    assert found.size_bytes == 5


@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["single put", "multipart"])
def test_an_object_is_replaced_where_that_is_wanted(s3: Place, bodies: tuple[bytes, ...]) -> None:
    s3.write(b"first")
    to = s3.destination(on_exists="overwrite")

    to.complete_upload(*upload_all(to, bodies))

    assert s3.read() == b"".join(bodies)


def test_a_put_repeated_after_a_lost_reply_meets_itself(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    to = s3_proxied.destination(on_exists="fail")
    upload = to.create_upload(plan_for((LAST,)))
    s3_proxy.drop_reply("PUT", s3_proxied.key)
    with pytest.raises(Exception, match="Disconnected") as lost:
        put(to, upload, 1, LAST)
    body = BytesBody(LAST)

    receipt = to.put_part(upload, part(1, LAST), body)

    assert lost.value.code == "transport"  # type: ignore[attr-defined]
    assert body.readinto(memoryview(bytearray(1))) == 0, "whoever sums up the bytes must see all of them"
    assert to.complete_upload(upload, [receipt]).etag == receipt.etag
