"""What only objects in memory do: their size limits, their validator, and proofs after a lost reply."""

from __future__ import annotations

from typing import cast

import pytest

from providers.base import MIB, ByteRange, BytesBody, Options, Profile, Services, UploadPlan, Validator
from providers.errors import (
    ChecksumMismatch,
    InvalidRange,
    ObjectTooLarge,
    ProviderUnavailable,
    SourceChanged,
    TransportError,
    UploadNotFound,
)
from providers.registry import open_destination, open_source
from providers.schemes import parse
from tests.contract.conftest import FakeBlobs, Place
from tests.contract.objects import cut, noise, plan, put, read_all, send


def blobs_of(place: Place) -> FakeBlobs:
    return cast(FakeBlobs, place.services.blobs)


def test_a_process_without_a_store_says_so() -> None:
    for role, opened in (("source", open_source), ("destination", open_destination)):
        with pytest.raises(ProviderUnavailable):
            opened(parse("mem:x", role), Profile("p"), Options(), Services())  # type: ignore[arg-type]  # a Role


def test_stat_gives_the_checksum_of_the_whole(memory_place: Place) -> None:
    assert memory_place.source_of(b"123456789").stat().checksum == "crc64nvme:ae8b14860a799888"


def test_a_source_of_64_mib_is_read_and_a_larger_one_is_refused(memory_place: Place) -> None:
    data = bytes(64 * MIB)
    source = memory_place.source_of(data)
    validator = source.stat().validator
    assert len(validator.encode()) < 1024
    span = ByteRange(63 * MIB + 5, 64 * MIB)
    assert read_all(source.read_range(span, validator=validator)) == data[span.start :]

    memory_place.store("object.bin", data + b"1")

    with pytest.raises(ObjectTooLarge):
        source.stat()


def test_one_changed_byte_is_noticed_before_the_bytes_beside_it_are_given(memory_place: Place) -> None:
    data = noise(3 * MIB)
    source = memory_place.source_of(data)
    validator = source.stat().validator
    body = source.read_range(ByteRange(100, 3 * MIB - 100), validator=validator)
    buffer = memoryview(bytearray(MIB))
    first = bytes(buffer[: body.readinto(buffer)])

    blobs_of(memory_place).strings["object.bin"][-1] ^= 1

    assert first == data[100:MIB]
    with pytest.raises(SourceChanged):
        read_all(body)


def test_a_source_that_vanished_or_shrank_while_it_is_read_is_a_changed_one(memory_place: Place) -> None:
    source = memory_place.source_of(noise(2 * MIB))
    validator = source.stat().validator
    bodies = [source.read_range(ByteRange(0, 2 * MIB), validator=each) for each in (validator, Validator("none"))]

    memory_place.store("object.bin", noise(MIB + 1))

    for body in bodies:
        with pytest.raises(SourceChanged):
            read_all(body)
    blobs_of(memory_place).remove("object.bin")
    with pytest.raises(SourceChanged):
        source.read_range(ByteRange(0, 1), validator=validator)


@pytest.mark.parametrize("text", ["crc:", "crc:3-", "crc:3-0-", "etag:x", "file:1-3-1"])
def test_a_validator_of_another_kind_pins_nothing_here(memory_place: Place, text: str) -> None:
    source = memory_place.source_of(b"abc")

    with pytest.raises(SourceChanged):
        read_all(source.read_range(ByteRange(0, 3), validator=Validator.decode(text)))


def test_a_destination_takes_16_mib_and_refuses_more(memory_place: Place) -> None:
    send(memory_place.destination(), bytes(16 * MIB), 5 * MIB)

    with pytest.raises(ObjectTooLarge):
        memory_place.destination().create_upload(UploadPlan(16 * MIB + 1, MIB, 17))


def test_an_object_of_unknown_size_grows_up_to_16_mib(memory_place: Place) -> None:
    data = noise(2 * MIB + 1)
    destination = memory_place.destination()
    parts = cut(len(data), MIB)
    upload = destination.create_upload(UploadPlan(None, MIB, 0))
    receipts = [put(destination, upload, part, data) for part in parts]

    with pytest.raises(InvalidRange):
        put(destination, upload, cut(17 * MIB, MIB)[16], bytes(17 * MIB))
    destination.complete_upload(upload, receipts)

    assert memory_place.read("object.bin") == data


def test_parts_that_do_not_fit_are_refused(memory_place: Place) -> None:
    destination = memory_place.destination()
    parts = cut(1000, 500)
    upload = destination.create_upload(plan(parts))
    short = BytesBody(bytes(400))
    short.size_bytes = 500

    with pytest.raises(InvalidRange):
        put(destination, upload, cut(1500, 500)[2], bytes(1500))
    with pytest.raises(InvalidRange):
        destination.put_part(upload, parts[0], BytesBody(bytes(499)))
    with pytest.raises(TransportError, match="100 bytes early"):
        destination.put_part(upload, parts[0], short)


def test_bytes_that_changed_after_their_receipt_are_not_published(memory_place: Place) -> None:
    destination = memory_place.destination()
    parts = cut(1000, 500)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, noise(1000)) for part in parts]
    destination.put_part(upload, parts[0], BytesBody(bytes(500)))  # a zombie, with other bytes

    with pytest.raises(ChecksumMismatch):
        destination.complete_upload(upload, receipts)

    assert memory_place.read("object.bin") is None


def test_an_equal_size_is_no_proof_after_a_lost_reply(memory_place: Place) -> None:
    destination = memory_place.destination()
    parts = cut(1000, 500)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, noise(1000)) for part in parts]
    destination.complete_upload(upload, receipts)
    memory_place.store("object.bin", noise(1000, 2))

    with pytest.raises(UploadNotFound):
        destination.complete_upload(upload, receipts)


def test_nothing_is_left_behind(memory_place: Place) -> None:
    send(memory_place.destination("kept"), noise(1000), 500)
    aborted = memory_place.destination("aborted")
    aborted.abort_upload(aborted.create_upload(plan(cut(1000, 500))))

    assert list(blobs_of(memory_place).strings) == ["kept"]
