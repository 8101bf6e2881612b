"""What every destination that takes bytes in order does alike: a new one adds a fixture, no tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.base import ByteRange, BytesBody, Options, Part, Profile, Services
from providers.errors import OffsetMoved, StopRequested
from providers.registry import open_destination
from providers.schemes import parse
from tests.contract.chunked_place import OrderedPlace
from tests.contract.objects import FailingBody, noise
from tests.servers.chunked_server import ChunkedServer

PART = 70_001


@pytest.fixture
def chunked_place(tmp_path: Path) -> Iterator[OrderedPlace]:
    with ChunkedServer(tmp_path / "kept") as server:
        location = parse(server.url("object.bin"), "destination")
        yield OrderedPlace(
            open=lambda: open_destination(location, Profile("test"), Options("t"), Services()),
            read=lambda: server.stored("object.bin"),
            part_bytes=PART,
        )


@pytest.fixture(params=["chunked"])
def place(request: pytest.FixtureRequest) -> OrderedPlace:
    found: OrderedPlace = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
def test_objects_of_every_size_arrive_whole_and_complete_twice(place: OrderedPlace, size: int) -> None:
    data = noise(size)
    destination, upload = place.begin(data)
    receipts = place.send(destination, upload, data)

    first = destination.complete_upload(upload, receipts)
    second = place.open().complete_upload(upload, receipts)

    assert place.read() == data
    assert first == second
    assert first.size_bytes == size


def test_another_process_goes_on_where_the_place_says(place: OrderedPlace) -> None:
    data = noise(3 * PART + 5)
    destination, upload = place.begin(data)
    half = Part(1, ByteRange(0, PART // 2))
    destination.put_part(upload, half, BytesBody(data[: PART // 2]))
    other = place.open()

    assert other.offset(upload, at=0, again=True) == PART // 2
    receipts = place.send(other, upload, data)

    other.complete_upload(upload, receipts)
    assert place.read() == data


def test_bytes_that_are_sent_again_change_nothing(place: OrderedPlace) -> None:
    data = noise(2 * PART)
    destination, upload = place.begin(data)
    place.send(destination, upload, data)

    destination.put_part(upload, Part(1, ByteRange(0, PART)), BytesBody(data[:PART]))

    assert place.read() == data
    assert destination.offset(upload, at=0, again=True) == len(data)


def test_bytes_past_a_hole_are_not_taken(place: OrderedPlace) -> None:
    data = noise(3 * PART)
    destination, upload = place.begin(data)

    with pytest.raises(OffsetMoved) as raised:
        destination.put_part(upload, Part(2, ByteRange(PART, 2 * PART)), BytesBody(data[PART : 2 * PART]))

    assert raised.value.offset == 0
    place.send(destination, upload, data)
    assert place.read() == data


def test_a_body_that_fails_passes_unmapped_and_the_place_says_what_it_kept(place: OrderedPlace) -> None:
    data = noise(PART + 10)
    destination, upload = place.begin(data)
    stop = StopRequested("paused")

    with pytest.raises(StopRequested) as raised:
        destination.put_part(upload, Part(1, ByteRange(0, PART)), FailingBody(PART, PART - 1000, stop))

    assert raised.value is stop
    assert destination.offset(upload, at=0, again=True) < PART
    place.send(destination, upload, data)
    assert place.read() == data


def test_an_empty_put_sends_nothing_and_an_abort_harms_nothing(place: OrderedPlace) -> None:
    data = noise(PART)
    destination, upload = place.begin(data)
    receipts = place.send(destination, upload, data)

    again = destination.put_part(upload, Part(1, ByteRange(PART, PART)), BytesBody(b""))
    destination.complete_upload(upload, receipts)
    destination.abort_upload(upload)

    assert again.size_bytes == 0
    assert place.read() == data
