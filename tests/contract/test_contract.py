"""What every provider does alike, each against its real store, and read back by another road."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import pytest

from providers.base import ByteRange, BytesBody, ListsParts, Options, ReadsBack, Source
from providers.errors import (
    DestinationExists,
    InvalidRange,
    NotFound,
    SourceChanged,
    SourceMissing,
    StopRequested,
    TransportError,
    UploadNotFound,
)
from tests.contract.conftest import Place
from tests.contract.objects import FailingBody, cut, noise, plan, put, read_all, send

HOSTILE_NAMES = [
    "naïve Änderung 文件 🚚.bin",
    "e\u0301 is not é.bin",
    "a b+c%20d&e=f;g@h,i!j(k)'l~m.bin",
    "-rf.bin",
    "$(touch x) `id` \\back.bin",
    "con",
    ".hidden",
    "x" * 200,
]
SIZES = {
    "empty": (0, 0),
    "one byte": (0, 1),
    "part - 1": (1, -1),
    "part": (1, 0),
    "part + 1": (1, 1),
    "3 parts": (3, 0),
}


# Sources


def test_stat_knows_size_name_and_what_pins_the_object(origin: Place) -> None:
    source = origin.source_of(noise(1234), "folder/some name.bin")

    found = source.stat()

    assert (found.size_bytes, found.name, found.accepts_ranges) == (1234, "some name.bin", True)
    assert found.validator.pins
    assert source.stat().validator == found.validator


def test_any_range_gives_exactly_its_bytes(origin: Place) -> None:
    data = noise(3_333_333)
    source = origin.source_of(data)
    validator = source.stat().validator
    points = random.Random(4)
    spans = [sorted(points.choices(range(len(data) + 1), k=2)) for _ in range(12)]
    spans += [[0, 1], [0, len(data)], [len(data) - 1, len(data)], [1 << 20, 2 << 20], [(1 << 20) - 1, (2 << 20) + 1]]

    for start, stop in spans:
        body = source.read_range(ByteRange(start, stop), validator=validator)
        assert body.size_bytes == stop - start
        assert read_all(body) == data[start:stop], (start, stop)


def test_ranges_are_read_by_several_threads_at_once(origin: Place) -> None:
    data = noise(2_000_000)
    source = origin.source_of(data)
    validator = source.stat().validator

    with ThreadPoolExecutor(4) as threads:
        bodies = threads.map(
            lambda part: read_all(source.read_range(part.span, validator=validator)), cut(len(data), 99_999)
        )

    assert b"".join(bodies) == data


def test_a_body_closed_half_read_disturbs_nothing(origin: Place) -> None:
    data = noise(600_000)
    source = origin.source_of(data)
    validator = source.stat().validator
    body = source.read_range(ByteRange(0, 500_000), validator=validator)
    body.readinto(memoryview(bytearray(1000)))

    body.close()
    body.close()

    assert read_all(source.read_range(ByteRange(100, 600_000), validator=validator)) == data[100:]


def test_names_in_any_script_are_read(origin: Place) -> None:
    for number, name in enumerate(HOSTILE_NAMES):
        source = origin.source_of(noise(100, number), name)
        span = ByteRange(0, 100)
        assert read_all(source.read_range(span, validator=source.stat().validator)) == noise(100, number), name


def test_an_empty_object_has_size_0(origin: Place) -> None:
    assert origin.source_of(b"").stat().size_bytes == 0


def test_an_object_that_is_not_there_is_missing(origin: Place) -> None:
    origin.store("another.bin", b"x")

    with pytest.raises((NotFound, SourceMissing)):
        origin.source("nothing.bin").stat()


@pytest.mark.parametrize(
    "after", [noise(300_000, 2), noise(299_999), noise(300_001)], ids=["same size", "less", "more"]
)
def test_a_source_that_changed_is_never_read(origin: Place, after: bytes) -> None:
    source = origin.source_of(noise(300_000))
    validator = source.stat().validator
    origin.store("object.bin", after)

    with pytest.raises(SourceChanged):
        read_all(origin.source("object.bin").read_range(ByteRange(1000, 200_000), validator=validator))


def test_a_range_past_the_end_is_refused(origin: Place) -> None:
    source = origin.source_of(noise(1000))

    with pytest.raises(InvalidRange):
        read_all(source.read_range(ByteRange(1000, 1001), validator=source.stat().validator))


# Destinations that take parts


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_objects_of_every_size_arrive_whole(place: Place, size: tuple[int, int]) -> None:
    data = noise(size[0] * place.part_bytes + size[1])
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in parts]

    found = destination.complete_upload(upload, receipts)

    assert [(each.number, each.size_bytes) for each in receipts] == [(part.number, part.size_bytes) for part in parts]
    assert found.size_bytes == len(data)
    assert place.read("object.bin") == data


def test_parts_sent_out_of_order_are_joined_by_number(place: Place) -> None:
    data = noise(2 * place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in (parts[1], parts[2], parts[0])]

    destination.complete_upload(upload, receipts)

    assert place.read("object.bin") == data


def test_a_part_sent_again_replaces_the_first_one(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    destination.put_part(upload, parts[0], BytesBody(noise(place.part_bytes, 2)))
    last = put(destination, upload, parts[1], data)

    first = put(destination, upload, parts[0], data)

    destination.complete_upload(upload, [first, last])
    assert place.read("object.bin") == data


def test_parts_are_written_by_several_threads_at_once(place: Place) -> None:
    data = noise(4 * place.part_bytes - 5)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))

    with ThreadPoolExecutor(4) as threads:
        receipts = list(threads.map(lambda part: put(destination, upload, part, data), parts))

    destination.complete_upload(upload, receipts)
    assert place.read("object.bin") == data


def test_other_processes_go_on_with_an_upload(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    parts = cut(len(data), place.part_bytes)
    upload = place.destination().create_upload(plan(parts))

    receipts = [put(place.destination(), upload, part, data) for part in parts]
    place.destination().complete_upload(upload, receipts)

    assert place.read("object.bin") == data


def test_nothing_is_visible_before_completion(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))

    for part in parts:
        put(destination, upload, part, data)

    assert place.read("object.bin") is None
    assert destination.existing() is None


@pytest.mark.parametrize("error", [StopRequested("paused"), TransportError("reset"), SourceChanged("other")])
def test_a_body_that_fails_in_mid_part_passes_unmapped_and_can_be_sent_again(place: Place, error: Exception) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    body = FailingBody(place.part_bytes, place.part_bytes - 1000, error)  # type: ignore[arg-type]  # all are ours

    with pytest.raises(type(error)) as raised:
        destination.put_part(upload, parts[0], body)

    assert raised.value is error
    assert place.read("object.bin") is None
    destination.complete_upload(upload, [put(destination, upload, part, data) for part in parts])
    assert place.read("object.bin") == data


def test_completing_twice_finds_the_object_it_made(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in parts]
    first = destination.complete_upload(upload, receipts)

    second = place.destination().complete_upload(upload, receipts)

    assert (second.size_bytes, second.validator) == (first.size_bytes, first.validator)
    assert place.read("object.bin") == data


def test_completing_after_another_object_took_the_place_does_not_claim_it(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination(options=Options(on_exists="overwrite"))
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in parts]
    destination.abort_upload(upload)
    send(place.destination(options=Options("another", on_exists="overwrite")), noise(len(data), 2), place.part_bytes)

    with pytest.raises(UploadNotFound):
        destination.complete_upload(upload, receipts)

    assert place.read("object.bin") == noise(len(data), 2)


def test_an_aborted_upload_is_gone_and_may_be_aborted_again(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in parts]

    destination.abort_upload(upload)
    destination.abort_upload(upload)

    with _refusing_late_parts(place):
        put(destination, upload, parts[0], data)
    with pytest.raises(UploadNotFound):
        destination.complete_upload(upload, receipts)
    assert place.read("object.bin") is None


def test_a_completed_upload_takes_no_parts_and_its_object_survives_an_abort(place: Place) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination()
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    destination.complete_upload(upload, [put(destination, upload, part, data) for part in parts])

    with _refusing_late_parts(place):
        destination.put_part(upload, parts[0], BytesBody(noise(place.part_bytes, 2)))
    destination.abort_upload(upload)

    assert place.read("object.bin") == data


def _refusing_late_parts(place: Place) -> AbstractContextManager[object]:
    return pytest.raises(UploadNotFound) if place.refuses_late_parts else nullcontext()


@pytest.mark.parametrize("on_exists", ["fail", "skip"])
def test_an_object_that_appears_meanwhile_is_kept(place: Place, on_exists: str) -> None:
    data = noise(place.part_bytes + 10)
    destination = place.destination(options=Options(on_exists=on_exists))  # type: ignore[arg-type]  # a Literal
    parts = cut(len(data), place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in parts]
    place.store("object.bin", b"somebody else's")

    with pytest.raises(DestinationExists):
        destination.complete_upload(upload, receipts)

    assert place.read("object.bin") == b"somebody else's"


def test_the_store_lists_the_parts_it_holds(listing_place: Place) -> None:
    data = noise(listing_place.part_bytes + 10)
    destination = listing_place.destination()
    assert isinstance(destination, ListsParts)
    parts = cut(len(data), listing_place.part_bytes)
    upload = destination.create_upload(plan(parts))
    assert list(destination.list_parts(upload)) == []

    receipts = [put(destination, upload, part, data) for part in parts]

    listed = destination.list_parts(upload)
    assert [(each.number, each.size_bytes, each.etag) for each in listed] == [
        (each.number, each.size_bytes, each.etag) for each in receipts
    ]
    destination.complete_upload(upload, listed)
    assert listing_place.read("object.bin") == data


# Destinations of any kind


def test_names_in_any_script_are_written(whole_place: Place) -> None:
    for number, name in enumerate(HOSTILE_NAMES):
        send(whole_place.destination(f"a folder/{name}"), noise(100, number), whole_place.part_bytes)
        assert whole_place.read(f"a folder/{name}") == noise(100, number), name


@pytest.mark.parametrize("size_bytes", [0, 1, 200_000])
def test_an_object_of_one_part_arrives_whole(whole_place: Place, size_bytes: int) -> None:
    send(whole_place.destination(), noise(size_bytes), whole_place.part_bytes)

    assert whole_place.read("object.bin") == noise(size_bytes)


def test_a_failed_single_part_leaves_nothing_visible(whole_place: Place) -> None:
    destination = whole_place.destination()
    (part,) = cut(200_000, whole_place.part_bytes) if whole_place.part_bytes > 200_000 else cut(60_000, 60_000)
    upload = destination.create_upload(plan([part]))
    stop = StopRequested("paused")

    with pytest.raises(StopRequested) as raised:
        destination.put_part(upload, part, FailingBody(part.size_bytes, part.size_bytes // 2, stop))

    assert raised.value is stop
    assert whole_place.read("object.bin") is None


def test_existing_tells_what_is_there(whole_place: Place) -> None:
    destination = whole_place.destination()
    assert destination.existing() is None

    whole_place.store("object.bin", noise(777))

    found = destination.existing()
    assert found is not None
    assert found.size_bytes == 777


@pytest.mark.parametrize("on_exists", ["fail", "skip"])
def test_an_existing_object_is_kept(whole_place: Place, on_exists: str) -> None:
    whole_place.store("object.bin", b"the old one")
    destination = whole_place.destination(options=Options(on_exists=on_exists))  # type: ignore[arg-type]  # a Literal

    with pytest.raises(DestinationExists):
        send(destination, noise(5000), whole_place.part_bytes)

    assert whole_place.read("object.bin") == b"the old one"


def test_an_existing_object_is_overwritten_when_asked(whole_place: Place) -> None:
    whole_place.store("object.bin", b"the old one")

    send(whole_place.destination(options=Options(on_exists="overwrite")), noise(5000), whole_place.part_bytes)

    assert whole_place.read("object.bin") == noise(5000)


def test_a_single_part_completes_twice(whole_place: Place) -> None:
    data = noise(5000)
    destination = whole_place.destination()
    parts = cut(len(data), whole_place.part_bytes)
    upload = destination.create_upload(plan(parts))
    receipts = [put(destination, upload, part, data) for part in parts]
    first = destination.complete_upload(upload, receipts)

    second = whole_place.destination().complete_upload(upload, receipts)

    assert second == first
    assert whole_place.read("object.bin") == data


def test_what_was_written_is_read_back_and_removed(place: Place) -> None:
    send(place.destination(), noise(5000), place.part_bytes)
    destination = place.destination()
    assert isinstance(destination, ReadsBack)

    back: Source = destination.as_source()

    assert read_all(back.read_range(ByteRange(0, 5000), validator=back.stat().validator)) == noise(5000)
    destination.remove()
    destination.remove()
    assert place.read("object.bin") is None
