"""Writing block blobs to a real server that checks every signature; blobs are read back by Microsoft's SDK."""

from __future__ import annotations

import base64

import pytest
from awscrt.checksums import crc64nvme
from azure.storage.blob import BlobBlock

from providers.azure_blocks import block_id
from providers.base import (
    MIB,
    ByteRange,
    BytesBody,
    CopiesRange,
    ListsParts,
    ListsUploads,
    Part,
    ReadsBack,
    UploadId,
    UploadPlan,
)
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    InvalidPart,
    InvalidValue,
    NotFound,
    ObjectTooLarge,
    ResponseStatusError,
    UploadNotFound,
)
from tests.contract.azure_place import FIRST, LAST, SECOND, THREE, Place, part, plan_for, put, upload_all
from tests.servers.logging_proxy import LoggingProxy

pytest_plugins = ["tests.contract.azure_fixtures"]

UPLOAD = UploadId("0123456789ab")


def test_the_destination_has_the_skills_it_names(azure: Place) -> None:
    to = azure.destination()

    assert all(isinstance(to, skill) for skill in (ListsParts, CopiesRange, ReadsBack))
    assert not isinstance(to, ListsUploads), "nothing is open at the store, so nothing is to be found there"


# blocks


def test_a_blob_is_made_of_its_blocks_with_type_owner_and_tier(azure: Place) -> None:
    to = Place(azure.server, azure.name, access_tier="cool").destination(content_type="text/x-parts")
    upload = to.create_upload(plan_for(THREE))
    receipts = [put(to, upload, number, THREE[number - 1]) for number in (3, 1, 2)]
    assert azure.read() is None

    stat = to.complete_upload(upload, receipts)

    assert azure.read() == FIRST + SECOND + LAST
    assert (stat.size_bytes, stat.metadata) == (len(FIRST + SECOND + LAST), {"haulage_id": "t1"})
    facts = azure.blob.get_blob_properties()
    assert (facts.content_settings.content_type, str(facts.blob_tier)) == ("text/x-parts", "Cool")
    blocks, waiting = azure.blob.get_block_list("all")
    # The SDK decodes each id once.
    assert [each.id for each in blocks] == [f"{upload}{index:08d}" for index in range(3)]
    assert waiting == []


def test_a_receipt_holds_the_checksum_the_store_computed(azure: Place) -> None:
    to = azure.destination()
    upload = to.create_upload(plan_for(THREE))

    receipt = to.put_part(upload, part(3, LAST), BytesBody(LAST))

    assert receipt.crc64nvme == crc64nvme(LAST)


def test_blocks_of_another_upload_are_never_committed(azure: Place) -> None:
    """Neither those it left, nor those a stalled worker of it sends late: all wait at the same blob."""
    earlier, to = azure.destination(transfer_id="t0"), azure.destination()
    other, _ = upload_all(earlier, (SECOND, FIRST, LAST))

    upload, receipts = upload_all(to, (FIRST, SECOND))
    put(earlier, other, 1, SECOND)

    assert [each.number for each in to.list_parts(upload)] == [1, 2]
    assert to.complete_upload(upload, receipts).size_bytes == len(FIRST + SECOND)
    assert azure.read() == FIRST + SECOND
    with pytest.raises(UploadNotFound):
        earlier.complete_upload(other, receipts)


@pytest.mark.parametrize("raw_bytes", [16, 36, 48])
def test_ids_are_as_long_as_those_another_tool_left(azure: Place, raw_bytes: int) -> None:
    azure.blob.stage_block("x" * raw_bytes, b"left by another tool")

    to = azure.destination()
    to.complete_upload(*upload_all(to, THREE))

    assert azure.read() == FIRST + SECOND + LAST


def test_a_tool_that_left_short_ids_is_named_before_a_byte_is_sent(azure: Place) -> None:
    azure.blob.stage_block("00000001", b"left by another tool")

    with pytest.raises(ResponseStatusError, match="short ids"):
        azure.destination().create_upload(plan_for(THREE))


def test_a_tool_that_starts_meanwhile_with_other_ids_is_named(azure: Place) -> None:
    to = azure.destination()
    upload = to.create_upload(plan_for(THREE))
    azure.blob.stage_block("x" * 48, b"sent by another tool")

    with pytest.raises(ResponseStatusError, match="another tool"):
        put(to, upload, 1, FIRST)


def test_what_is_too_large_is_refused_without_a_request(azure: Place) -> None:
    nowhere = Place(azure.server, azure.name, endpoint="http://127.0.0.1:1/acct").destination()
    large = Part(1, ByteRange(0, 4000 * MIB + 1))

    with pytest.raises(ObjectTooLarge):
        nowhere.put_part(UPLOAD, large, BytesBody(b""))
    with pytest.raises(ObjectTooLarge):
        nowhere.put_part(UPLOAD, Part(50_001, ByteRange(0, 1)), BytesBody(b""))
    with pytest.raises(ObjectTooLarge):
        nowhere.create_upload(UploadPlan(50_001, 1, 50_001))


@pytest.mark.parametrize("name", ["../private/x", "a/./b", "a/..", ".."])
def test_a_name_that_the_service_would_fold_into_another_is_refused(azure: Place, name: str) -> None:
    with pytest.raises(InvalidValue, match="segments"):
        Place(azure.server, name).destination()
    with pytest.raises(InvalidValue, match="segments"):
        Place(azure.server, name).source()


def test_blocks_that_somebody_dropped_are_missed_before_the_commit(azure: Place) -> None:
    """Whoever commits drops all that waits at it; with some blocks sent again, the others are named."""
    to = azure.destination()
    upload, receipts = upload_all(to, THREE)
    azure.blob.stage_block("x" * 20, b"in between")
    azure.blob.commit_block_list([BlobBlock("x" * 20)])

    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)
    again = put(to, upload, 2, SECOND)
    with pytest.raises(InvalidPart, match="2 of 3"):
        to.complete_upload(upload, [receipts[0], again, receipts[2]])

    assert azure.read() == b"in between"
    assert [each.number for each in to.list_parts(upload)] == [2]


def test_a_block_of_another_size_is_missed_before_the_commit(azure: Place) -> None:
    to = azure.destination()
    upload, receipts = upload_all(to, THREE)
    put(to, upload, 2, LAST)

    with pytest.raises(InvalidPart, match="1 of 3"):
        to.complete_upload(upload, receipts)


def test_cancelling_an_overwrite_leaves_what_was_there(azure: Place) -> None:
    azure.write(b"the old one")
    before = azure.blob.get_blob_properties().etag
    to = azure.destination(on_exists="overwrite")
    upload, receipts = upload_all(to, THREE)

    to.abort_upload(upload)
    to.abort_upload(upload)

    assert (azure.read(), azure.blob.get_blob_properties().etag) == (b"the old one", before)
    with pytest.raises(UploadNotFound):
        to.list_parts(upload)
    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


def test_a_cancelled_upload_does_not_end_the_next_one(azure: Place) -> None:
    to = azure.destination()
    first, _ = upload_all(to, THREE)
    to.abort_upload(first)

    second, receipts = upload_all(to, THREE)
    to.complete_upload(second, receipts)

    assert azure.read() == FIRST + SECOND + LAST
    assert azure.blob.get_block_list("uncommitted")[1] == [], "the commit dropped what was left"


@pytest.mark.parametrize("on_exists", [None, "fail"])
def test_a_lost_reply_to_the_commit_is_made_up_for_by_asking_again(
    azure_proxied: Place, azure_proxy: LoggingProxy, on_exists: str | None
) -> None:
    to = azure_proxied.destination(on_exists=on_exists, transfer_id="")
    upload, receipts = upload_all(to, THREE)
    azure_proxy.drop_reply("PUT", "comp=blocklist")

    with pytest.raises(Exception, match=r"Disconnected|closed|reset") as lost:
        to.complete_upload(upload, receipts)
    etag = azure_proxied.blob.get_blob_properties().etag
    stat = to.complete_upload(upload, receipts)

    assert lost.value.code == "transport"  # type: ignore[attr-defined]
    assert stat.etag == etag, "it is not written again"
    assert azure_proxied.read() == FIRST + SECOND + LAST


@pytest.mark.parametrize("on_exists", [None, "fail"])
def test_an_empty_stream_is_an_empty_blob(
    azure_proxied: Place, azure_proxy: LoggingProxy, on_exists: str | None
) -> None:
    to = azure_proxied.destination(on_exists=on_exists)
    upload = to.create_upload(UploadPlan(None, 1, 0))
    receipt = put(to, upload, 1, b"")
    azure_proxy.drop_reply("PUT", "comp=blocklist")

    with pytest.raises(Exception, match=r"Disconnected|closed|reset"):
        to.complete_upload(upload, [receipt])
    stat = to.complete_upload(upload, [receipt])

    assert (stat.size_bytes, azure_proxied.read()) == (0, b"")


def test_an_empty_stream_does_not_claim_another_blob(azure: Place) -> None:
    azure.write(b"")
    to = azure.destination(on_exists="fail")
    upload = to.create_upload(UploadPlan(None, 1, 0))

    with pytest.raises(DestinationExists):
        to.complete_upload(upload, [put(to, upload, 1, b"")])


def test_a_foreign_blob_of_the_same_size_is_no_proof_of_ours(azure: Place) -> None:
    to = azure.destination()
    upload, receipts = upload_all(to, THREE)
    to.complete_upload(upload, receipts)
    azure.blob.stage_block("x" * 20, SECOND + FIRST + LAST)
    azure.blob.commit_block_list([BlobBlock("x" * 20)], metadata={"haulage_id": "t1"})

    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


def test_receipts_with_a_gap_are_refused_before_anything_is_sent(azure: Place) -> None:
    to = azure.destination()
    upload, receipts = upload_all(to, THREE)

    with pytest.raises(InvalidPart):
        to.complete_upload(upload, [receipts[0], receipts[2]])


# a single put


@pytest.mark.parametrize("body", [b"", b"1", bytes(2 * MIB)], ids=["0 B", "1 B", "2 MiB"])
def test_one_part_is_one_put(azure_proxied: Place, azure_proxy: LoggingProxy, body: bytes) -> None:
    to = azure_proxied.destination(content_type="text/x-one")
    upload, receipts = upload_all(to, (body,))

    stat = to.complete_upload(upload, receipts)

    assert azure_proxied.read() == body
    assert (stat.size_bytes, stat.metadata) == (len(body), {"haulage_id": "t1"})
    assert azure_proxied.blob.get_blob_properties().content_settings.content_type == "text/x-one"
    assert [each.method for each in azure_proxy.log] == ["PUT", "HEAD"]


def test_a_put_repeated_after_a_lost_reply_meets_itself(azure_proxied: Place, azure_proxy: LoggingProxy) -> None:
    to = azure_proxied.destination(on_exists="fail")
    upload = to.create_upload(plan_for((LAST,)))
    azure_proxy.drop_reply("PUT", azure_proxied.name)
    with pytest.raises(Exception, match=r"Disconnected|closed|reset"):
        put(to, upload, 1, LAST)
    body = BytesBody(LAST)

    receipt = to.put_part(upload, part(1, LAST), body)

    assert body.readinto(memoryview(bytearray(1))) == 0, "whoever sums up the bytes must see all of them"
    assert to.complete_upload(upload, [receipt]).etag == receipt.etag


def test_a_single_put_lists_its_part_only_if_the_blob_is_this_transfers(azure: Place) -> None:
    upload, (receipt,) = upload_all(azure.destination(), (LAST,))

    (listed,) = azure.destination().list_parts(upload)
    assert (listed.number, listed.size_bytes, listed.etag) == (1, len(LAST), receipt.etag)
    assert azure.destination(transfer_id="t2").list_parts(upload) == []


def test_a_single_put_that_somebody_replaced_or_removed_is_not_ours(azure: Place) -> None:
    to = azure.destination()
    upload, receipts = upload_all(to, (LAST,))
    azure.write(b"THE END")

    with pytest.raises(ChecksumMismatch):
        to.complete_upload(upload, receipts)
    azure.blob.delete_blob()
    with pytest.raises(UploadNotFound):
        to.complete_upload(upload, receipts)


@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["single put", "blocks"])
@pytest.mark.parametrize("kind", ["page", "append"])
def test_a_blob_of_another_kind_is_replaced_or_named_but_never_mixed(
    azure: Place, bodies: tuple[bytes, ...], kind: str
) -> None:
    if kind == "page":
        azure.blob.create_page_blob(512)
    else:
        azure.blob.create_append_blob()
    to = azure.destination(on_exists="overwrite")

    if len(bodies) == 1:
        to.complete_upload(*upload_all(to, bodies))
        assert azure.read() == LAST
    else:
        with pytest.raises(ResponseStatusError):
            upload_all(to, bodies)


@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["single put", "blocks"])
def test_a_missing_container_is_not_found(azure: Place, bodies: tuple[bytes, ...]) -> None:
    to = azure.destination()
    to.url = to.url.replace("/contract/", "/no-such-container/")

    with pytest.raises(NotFound, match="container"):
        upload_all(to, bodies)


def test_an_id_is_what_the_service_documents(azure: Place) -> None:
    to = azure.destination()
    upload, _ = upload_all(to, THREE)

    (_, second, _) = sorted(each.id for each in azure.blob.get_block_list("uncommitted")[1])

    assert base64.b64encode(second.encode()).decode() == block_id(1, upload)
    assert block_id(1, upload).endswith("MDAwMDAwMDE=")
