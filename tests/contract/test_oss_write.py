"""Writing to OSS: a stand-in verifies signatures; Alibaba's SDK reads back, and compares checksums of its own."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from fastcrc.crc64 import xz

from providers.base import Body, BytesBody, CopiesRange, ListsParts, ListsUploads, Options, ReadsBack, UploadId
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    InvalidPart,
    PartCorrupted,
    ProviderError,
    SourceChanged,
    UploadNotFound,
)
from providers.oss import OssDestination
from providers.oss_proof import etag_of, receipt_of
from tests.contract.oss_place import (
    BUCKET,
    FIRST,
    LAST,
    PART,
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

pytest_plugins = ["tests.contract.oss_fixtures"]


def test_the_destination_has_the_skills_it_names(oss: Place) -> None:
    to = oss.destination()

    assert all(isinstance(to, skill) for skill in (ListsParts, ListsUploads, CopiesRange, ReadsBack))


# multipart


@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_the_object_is_what_the_parts_were(oss: Place, signature: str) -> None:
    to = oss.by(signature=signature).destination(content_type="text/x-parts")
    upload = to.create_upload(plan_for(THREE))
    receipts = [put(to, upload, number, THREE[number - 1]) for number in (3, 1, 2)]
    assert oss.read() is None

    stat = to.complete_upload(upload, receipts)

    assert oss.read() == FIRST + SECOND + LAST
    assert stat.checksum == f"crc64ecma:{xz(FIRST + SECOND + LAST):016x}"
    assert stat.metadata == {"haulage-id": "t1"}
    assert (oss.head().content_type, oss.head().object_type) == ("text/x-parts", "Multipart")


def test_parts_that_were_not_named_are_dropped(oss: Place) -> None:
    to = oss.destination()
    upload, receipts = upload_all(to, (FIRST, SECOND, LAST))
    put(to, upload, 4, b"somebody sent this to the same upload")

    to.complete_upload(upload, receipts)

    assert oss.read() == FIRST + SECOND + LAST


def test_listed_parts_are_what_was_sent_over_several_pages(oss: Place) -> None:
    to = oss.destination()
    upload, receipts = upload_all(to, THREE)
    paging = OssDestination(to.account, BUCKET, oss.key, Options(transfer_id="t1"), page=1)

    listed = paging.list_parts(upload)

    assert listed == [replace(each, crc64nvme=None) for each in receipts]


def test_open_uploads_of_exactly_this_key_are_listed_with_their_time(oss: Place) -> None:
    to = oss.destination()
    longer = Place(oss.server, f"{oss.key}.longer").destination()
    mine = {to.create_upload(plan_for(THREE)) for _ in range(3)}
    other = longer.create_upload(plan_for(THREE))
    paging = OssDestination(to.account, BUCKET, oss.key, Options(), page=1)

    listed = paging.list_uploads()
    below = paging.list_sessions(oss.key)

    assert {upload for upload, _ in listed} == mine
    assert {upload: key for key, upload, _ in below} == {**dict.fromkeys(mine, oss.key), other: f"{oss.key}.longer"}
    assert all(abs(created - time.time()) < 60 for _, created in listed)


def test_an_upload_that_is_gone_is_not_found(oss: Place) -> None:
    to = oss.destination()
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


@pytest.mark.parametrize("on_exists", [None, "fail"])
def test_a_lost_reply_to_complete_is_made_up_for_by_asking_again(
    oss_proxied: Place, oss_proxy: LoggingProxy, on_exists: str | None
) -> None:
    to = oss_proxied.destination(on_exists=on_exists)
    upload, receipts = upload_all(to, THREE)
    oss_proxy.drop_reply("POST", "uploadId=")

    with pytest.raises(ProviderError) as lost:
        to.complete_upload(upload, receipts)
    stat = to.complete_upload(upload, receipts)

    assert lost.value.code == "transport"
    assert stat.size_bytes == len(FIRST + SECOND + LAST)


@pytest.mark.parametrize("proof", ["checksum", "metadata"])
def test_an_upload_the_store_forgot_is_known_by_its_object(oss: Place, proof: str) -> None:
    upload, receipts = upload_all(oss.destination(), THREE)
    oss.destination().complete_upload(upload, receipts)
    if proof == "metadata":
        receipts = [replace(each, etag='"opaque"') for each in receipts]

    again = oss.destination(transfer_id="t1" if proof == "metadata" else "")

    assert again.complete_upload(upload, receipts).size_bytes == len(FIRST + SECOND + LAST)


def test_a_foreign_object_of_the_same_size_is_no_proof_of_ours(oss: Place) -> None:
    to = oss.destination()
    upload, receipts = upload_all(to, THREE)
    to.abort_upload(upload)
    oss.write(SECOND + FIRST + LAST)

    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


def test_an_object_with_another_checksum_is_refused(oss: Place) -> None:
    to = oss.destination()
    upload, receipts = upload_all(to, THREE)
    wrong = receipt_of(2, PART, etag_of(receipts[1]), xz(FIRST))

    with pytest.raises(ChecksumMismatch, match="crc64ecma"):
        to.complete_upload(upload, [receipts[0], wrong, receipts[2]])


def test_a_wrong_etag_or_a_part_below_the_minimum_is_an_invalid_part(oss: Place) -> None:
    to = oss.destination()
    upload, receipts = upload_all(to, THREE)
    small = [put(to, upload, number, LAST) for number in (4, 5)]

    with pytest.raises(InvalidPart):
        to.complete_upload(upload, [replace(receipts[0], etag=receipts[1].etag), *receipts[1:]])
    with pytest.raises(InvalidPart):
        to.complete_upload(upload, [replace(each, number=each.number - 3) for each in small])
    with pytest.raises(InvalidPart, match="receipts"):
        to.complete_upload(upload, [receipts[0], receipts[2]])


def test_a_reply_without_an_upload_is_a_parse_error(oss_proxied: Place, oss_proxy: LoggingProxy) -> None:
    oss_proxy.answer("POST", "uploads", status=200, body=b"<InitiateMultipartUploadResult/>")

    with pytest.raises(ProviderError) as refused:
        oss_proxied.destination().create_upload(plan_for(THREE))

    assert refused.value.code == "response_parse"


# what was damaged on its way


class Damaging:
    """Gives other bytes than those that are summed up above: memory that failed, or a proxy."""

    def __init__(self, inner: Body) -> None:
        self.size_bytes = inner.size_bytes
        self._inner = inner

    def readinto(self, buffer: memoryview) -> int:
        count = self._inner.readinto(buffer)
        if count:
            buffer[0] ^= 1
        return count

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize("bodies", [(FIRST, LAST), (FIRST,)], ids=["part", "whole"])
@pytest.mark.parametrize("on_exists", ["fail", "overwrite"])
def test_a_part_that_the_store_has_otherwise_is_sent_again(
    oss: Place, bodies: tuple[bytes, ...], on_exists: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = oss.destination(on_exists=on_exists)
    upload = to.create_upload(plan_for(bodies))
    send = to.account.transport.put
    with monkeypatch.context() as damage:
        damage.setattr(to.account.transport, "put", lambda url, body, **rest: send(url, Damaging(body), **rest))
        with pytest.raises(PartCorrupted) as corrupted:
            put(to, upload, 1, FIRST)

    receipts = [put(to, upload, number, body) for number, body in enumerate(bodies, 1)]
    to.complete_upload(upload, receipts)

    assert corrupted.value.retryable
    assert oss.read() == b"".join(bodies)


# a single put


@pytest.mark.parametrize("body", [b"", b"1", LAST, bytes(2 << 20)], ids=["0 B", "1 B", "7 B", "2 MiB"])
@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_one_part_is_one_put(oss_proxied: Place, oss_proxy: LoggingProxy, body: bytes, signature: str) -> None:
    to = oss_proxied.by(endpoint=oss_proxy.endpoint, signature=signature).destination(content_type="text/x-one")
    upload, receipts = upload_all(to, (body,))

    stat = to.complete_upload(upload, receipts)

    assert oss_proxied.read() == body
    assert (stat.size_bytes, stat.metadata) == (len(body), {"haulage-id": "t1"})
    assert oss_proxied.head().content_type == "text/x-one"
    assert [each.method for each in oss_proxy.log if each.method != "HEAD"] == ["PUT"]


def test_a_single_put_lists_its_part_only_if_the_object_is_this_transfers(oss: Place) -> None:
    upload, (receipt,) = upload_all(oss.destination(), (LAST,))

    assert oss.destination().list_parts(upload) == [replace(receipt, crc64nvme=None)]
    assert oss.destination(transfer_id="t2").list_parts(upload) == []


def test_a_single_put_that_somebody_replaced_or_removed_is_not_ours(oss: Place) -> None:
    to = oss.destination()
    upload, receipts = upload_all(to, (LAST,))

    oss.write(b"THE END")
    with pytest.raises(ChecksumMismatch):
        to.complete_upload(upload, receipts)
    to.abort_upload(upload)
    assert oss.read() == b"THE END"
    to.remove()
    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


# what is there already


@pytest.mark.parametrize("on_exists", ["fail", "skip"])
@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["single put", "multipart"])
def test_an_object_that_came_first_is_never_replaced(oss: Place, bodies: tuple[bytes, ...], on_exists: str) -> None:
    to = oss.destination(on_exists=on_exists)
    assert to.existing() is None
    oss.write(b"first")

    with pytest.raises(DestinationExists):
        to.complete_upload(*upload_all(to, bodies))

    assert oss.read() == b"first"


def test_a_put_repeated_after_a_lost_reply_meets_itself(oss_proxied: Place, oss_proxy: LoggingProxy) -> None:
    to = oss_proxied.destination(on_exists="fail")
    upload = to.create_upload(plan_for((LAST,)))
    oss_proxy.drop_reply("PUT", oss_proxied.key)
    with pytest.raises(ProviderError) as lost:
        put(to, upload, 1, LAST)
    body = BytesBody(LAST)

    receipt = to.put_part(upload, part(1, LAST), body)

    assert lost.value.code == "transport"
    assert body.readinto(memoryview(bytearray(1))) == 0, "whoever sums up the bytes must see all of them"
    assert to.complete_upload(upload, [receipt]).size_bytes == len(LAST)


# server-side copy


def test_parts_are_copied_by_the_server_itself(oss: Place, oss_origin: Place, oss_proxy: LoggingProxy) -> None:
    oss_origin.write(FIRST + SECOND + LAST)
    source, to = (each.by(endpoint=oss_proxy.endpoint) for each in (oss_origin, oss))
    reading, writing = source.source(), to.destination()
    validator = reading.stat().validator
    upload = writing.create_upload(plan_for(THREE))
    before = len(oss_proxy.log)

    copied = [writing.copy_part(upload, part(n, body), reading, validator=validator) for n, body in enumerate(THREE, 1)]
    stat = writing.complete_upload(upload, copied)

    assert writing.can_copy_from(reading)
    assert oss.read() == FIRST + SECOND + LAST
    assert stat.checksum == reading.stat().checksum
    assert writing.list_uploads() == []
    assert sum(each.sent_bytes + each.received_bytes for each in oss_proxy.log[before:]) < 10_000


def test_what_was_copied_is_recorded_as_it_is_listed(oss: Place, oss_origin: Place) -> None:
    oss_origin.write(FIRST + LAST)
    to, source = oss.destination(), oss_origin.source()
    upload = to.create_upload(plan_for((FIRST, LAST)))

    copied = to.copy_part(upload, part(2, LAST), source, validator=source.stat().validator)

    assert list(to.list_parts(upload)) == [copied]


@pytest.mark.parametrize("body", [b"", LAST], ids=["0 B", "7 B"])
def test_a_small_object_is_copied_in_one_go(oss: Place, oss_origin: Place, body: bytes) -> None:
    oss_origin.write(body)
    to, source = oss.destination(content_type="text/x-copied", on_exists="fail"), oss_origin.source()
    validator = source.stat().validator
    upload = to.create_upload(plan_for((body,)))

    first = to.copy_part(upload, part(1, body), source, validator=validator)
    again = to.copy_part(upload, part(1, body), source, validator=validator)
    stat = to.complete_upload(upload, [again])

    assert first == again, "the one that was in the way was ours"
    assert oss.read() == body
    assert stat.metadata == {"haulage-id": "t1"}
    assert oss.head().content_type == "text/x-copied"


@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["whole", "part"])
def test_a_copy_of_a_changed_source_is_refused(oss: Place, oss_origin: Place, bodies: tuple[bytes, ...]) -> None:
    oss_origin.write(b"".join(bodies))
    validator = oss_origin.source().stat().validator
    oss_origin.write(b"".join(bodies).upper())
    to = oss.destination()
    upload = to.create_upload(plan_for(bodies))

    with pytest.raises(SourceChanged):
        to.copy_part(upload, part(1, bodies[0]), oss_origin.source(), validator=validator)


def test_a_copy_never_replaces_what_came_first(oss: Place, oss_origin: Place) -> None:
    oss_origin.write(LAST)
    oss.write(b"first")
    to = oss.destination(on_exists="fail")

    with pytest.raises(DestinationExists):
        to.copy_part(
            UploadId("single"), part(1, LAST), oss_origin.source(), validator=oss_origin.source().stat().validator
        )

    assert oss.read() == b"first"


def test_a_page_that_leads_to_itself_ends_in_an_error(oss_proxied: Place, oss_proxy: LoggingProxy) -> None:
    to = oss_proxied.destination()
    upload, _ = upload_all(to, (FIRST, LAST))
    rows = b"<IsTruncated>true</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker>"
    page = b"<ListPartsResult>%b</ListPartsResult>" % rows
    oss_proxy.answer("GET", "uploadId=", status=200, body=page)

    with pytest.raises(ProviderError) as endless:
        to.list_parts(upload)

    assert endless.value.code == "response_parse"


def test_a_credential_that_may_only_write_is_enough(oss_proxied: Place, oss_proxy: LoggingProxy) -> None:
    to = oss_proxied.destination()
    upload, receipts = upload_all(to, (FIRST, LAST))
    oss_proxy.answer("HEAD", oss_proxied.key, status=403, body=error_xml("AccessDenied"), times=9)

    stat = to.complete_upload(upload, receipts)

    assert to.existing() is None
    assert stat.size_bytes == PART + len(LAST)
    assert stat.etag == f'"{oss_proxied.head().etag}"'
