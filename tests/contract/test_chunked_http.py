"""Chunked HTTP uploads on the wire, row by row (RC-50 to RC-58), against a server that keeps what it takes."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from providers.base import (
    MIB,
    Body,
    ByteRange,
    BytesBody,
    Destination,
    NeedsSourceHash,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReportsOffset,
    Services,
    UploadId,
    UploadPlan,
)
from providers.chunked_http_form import Form
from providers.errors import (
    Forbidden,
    InvalidValue,
    LengthUnknown,
    OffsetMoved,
    ProviderError,
    ResponseParseError,
    ResponseStatusError,
    ServerFault,
    StopRequested,
    Throttled,
    TransportError,
)
from providers.registry import open_destination
from providers.schemes import parse
from tests.contract.objects import FailingBody, noise
from tests.servers.chunked_server import ChunkedServer, Reply

NAME = 'naïve Änderung 文件 "a b" +%&=.bin'
PART = 70_001
DATA = noise(3 * PART + 17)
MD5 = hashlib.md5(DATA).hexdigest()  # noqa: S324  # the protocol's own
PROFILE = Profile("up", {"category": "reports", "header.X-Token": "let-me-in"})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChunkedServer]:
    with ChunkedServer(tmp_path / "kept") as server:
        yield server


@dataclass
class Sending:
    """One upload as a lane drives it, without a fleet."""

    destination: Any
    upload: UploadId

    def put(self, number: int, data: bytes = DATA) -> PartReceipt:
        span = ByteRange((number - 1) * PART, min(number * PART, len(data)))
        receipt: PartReceipt = self.destination.put_part(
            self.upload, Part(number, span), BytesBody(data[span.start : span.stop])
        )
        return receipt


def open_at(server: ChunkedServer, *, profile: Profile = PROFILE, **options: Any) -> Destination:
    location = parse(server.url(quote(NAME)), "destination")
    return open_destination(location, profile, Options("t", **options), Services())


def begin(server: ChunkedServer, data: bytes = DATA, **more: Any) -> Sending:
    destination = open_at(server, **more)
    md5 = hashlib.md5(data).hexdigest()  # noqa: S324
    return Sending(destination, destination.create_upload(UploadPlan(len(data), PART, 4, md5)))


def test_rc_50_prepare_is_one_form_of_four_texts_and_no_bytes(server: ChunkedServer) -> None:
    sending = begin(server, profile=Profile("up"))

    sending.put(1)

    (form,) = server.prepares
    assert form.method == "POST"
    assert form.path == "/upload"
    assert list(form.fields.items()) == [
        ("fileMd5", MD5),
        ("fileName", NAME),
        ("category", ""),
        ("totalSize", str(len(DATA))),
    ]
    assert form.file_head == ""


def test_rc_51_chunks_carry_file_place_and_size_and_together_are_the_object(server: ChunkedServer) -> None:
    sending = begin(server)

    for number in (1, 2, 3, 4):
        sending.put(number)

    assert server.stored(NAME) == DATA
    for number, form in enumerate(server.chunks, 1):
        size = min(PART, len(DATA) - (number - 1) * PART)
        assert form.order == ["file", "fileMd5", "fileName", "category", "offset", "partSize", "totalSize"]
        assert 'filename="upload_chunk_data"' in form.file_head
        assert "Content-Type: application/octet-stream" in form.file_head
        assert form.file_bytes == size
        assert form.fields == {
            "fileMd5": MD5,
            "fileName": NAME,
            "category": "reports",
            "offset": str((number - 1) * PART),
            "partSize": str(size),
            "totalSize": str(len(DATA)),
        }


def test_rc_51_a_chunk_has_a_known_length_and_passes_through_the_callers_buffer(server: ChunkedServer) -> None:
    class Zeros:
        """Nothing but a size: what is held of it is held by the form."""

        size_bytes = left = 24 * MIB

        def readinto(self, buffer: memoryview) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            return count

        def close(self) -> None: ...

    body: Body = Zeros()
    buffer, passed = memoryview(bytearray(MIB)), 0
    tracemalloc.start()
    form = Form({"fileName": NAME}).around(body, body.size_bytes)
    while count := form.readinto(buffer):
        passed += count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    begin(server).put(1)

    assert passed == form.size_bytes
    assert peak < MIB
    assert int(server.chunks[0].headers["content-length"]) > PART
    assert "transfer-encoding" not in server.chunks[0].headers


def test_rc_52_the_md5_is_asked_for_once_in_planning_and_is_in_every_form(server: ChunkedServer) -> None:
    destination = open_at(server)
    assert isinstance(destination, NeedsSourceHash)
    assert destination.source_hash() == "md5"
    with pytest.raises(InvalidValue):
        destination.create_upload(UploadPlan(10, 10, 1))
    with pytest.raises(LengthUnknown):
        destination.create_upload(UploadPlan(None, 10, 0, MD5))
    assert server.forms == []

    sending = begin(server)
    sending.put(1)

    assert {form.fields["fileMd5"] for form in server.forms} == {MD5}


ANSWERS: dict[str, tuple[bytes, int | type[ProviderError]]] = {
    "empty": (b"", PART),
    "whitespace": (b" \r\n\t", PART),
    "an empty object": (b"{}", PART),
    "nulls": (b'{"nextByte": null, "fileId": null}', PART),
    "an empty id": (b'{"nextByte": 70001, "fileId": ""}', PART),
    "unknown fields": (b'{"code": 0, "nextByte": 70001, "data": [1, {"a": 2}]}', PART),
    "beyond this part": (b'{"nextByte": 140000}', 140_000),
    "beyond the end": (b'{"nextByte": 99999999999999999999}', len(DATA)),
    "an id": (b'{"fileId": "f-1"}', len(DATA)),
    "no JSON": (b"<html>fine</html>", ResponseParseError),
    "not UTF-8": (b"\xff\xfe{", ResponseParseError),
    "a list": (b"[1]", ResponseParseError),
    "a number as text": (b'{"nextByte": "70001"}', ResponseParseError),
    "a fraction": (b'{"nextByte": 70001.5}', ResponseParseError),
    "a truth value": (b'{"nextByte": true}', ResponseParseError),
    "an id that is a number": (b'{"fileId": 5}', ResponseParseError),
    "fewer than were sent": (b'{"nextByte": 70000}', OffsetMoved),
    "a negative number": (b'{"nextByte": -1}', OffsetMoved),
}


@pytest.mark.parametrize(("body", "means"), ANSWERS.values(), ids=ANSWERS)
def test_rc_53_each_answer_means_where_to_go_on_or_an_error(
    server: ChunkedServer, body: bytes, means: int | type[ProviderError]
) -> None:
    sending = begin(server)
    server.chunk_script.append(Reply(body=body))

    if isinstance(means, int):
        sending.put(1)
        assert sending.destination.offset(sending.upload, at=PART, again=False) == means
        assert len(server.prepares) == 1
    else:
        with pytest.raises(means) as raised:
            sending.put(1)
        assert raised.value.number == (114 if means is OffsetMoved else 113)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ResponseStatusError),
        (400, ResponseStatusError),
        (401, Forbidden),
        (403, Forbidden),
        (408, Throttled),
        (412, ResponseStatusError),
        (429, Throttled),
        (500, ServerFault),
        (503, ServerFault),
    ],
)
def test_rc_53_a_refusal_is_109_with_the_words_of_the_server(
    server: ChunkedServer, status: int, kind: type[ProviderError]
) -> None:
    sending = begin(server)
    server.chunk_script.append(Reply(status=status, body=b"quota of  reports\nis used up"))
    server.prepare_script.append(Reply(status=status, body=b"quota of  reports\nis used up"))

    for ask in (lambda: sending.put(1), lambda: begin(server)):
        with pytest.raises(ProviderError, match="quota of reports is used up") as raised:
            ask()
        assert (type(raised.value), raised.value.number, raised.value.status) == (kind, 109, status)


@pytest.mark.parametrize(
    ("said", "begins_at"),
    [
        (Reply(), 0),
        (Reply(next_byte=-5), 0),
        (Reply(next_byte=PART), PART),
        (Reply(next_byte=PART + 100), PART + 100),
        (Reply(next_byte=len(DATA)), len(DATA)),
        (Reply(next_byte=len(DATA) + 1), len(DATA)),
        (Reply(file_id="whole"), len(DATA)),
    ],
)
def test_rc_54_and_56_prepare_says_where_to_begin(server: ChunkedServer, said: Reply, begins_at: int) -> None:
    server.prepare_script.append(said)
    sending = begin(server)

    assert sending.destination.offset(sending.upload, at=0, again=False) == begins_at
    assert len(server.prepares) == 1


def test_rc_54_who_did_not_send_the_part_before_asks_again(server: ChunkedServer) -> None:
    sending = begin(server)
    sending.put(1)
    elsewhere: Any = open_at(server)
    assert isinstance(elsewhere, ReportsOffset)

    assert elsewhere.offset(sending.upload, at=PART, again=False) == PART
    Sending(elsewhere, sending.upload).put(2)

    assert sending.destination.offset(sending.upload, at=2 * PART, again=False) == 2 * PART
    assert len(server.prepares) == 3
    assert sending.destination.offset(sending.upload, at=2 * PART, again=True) == 2 * PART
    assert len(server.prepares) == 4


def test_rc_56_and_57_the_id_of_a_chunk_answer_is_the_payload_and_without_one_there_is_none(
    server: ChunkedServer,
) -> None:
    with_id = begin(server)
    receipts = [with_id.put(number) for number in (1, 2, 3, 4)]
    server.says_file_id = False
    other = noise(len(DATA), 2)
    without = begin(server, other)
    bare = [without.put(number, other) for number in (1, 2, 3, 4)]

    # Another process commits: what it needs is in the receipts.
    committed: Any = open_at(server)
    assert committed.complete_upload(with_id.upload, receipts).metadata == {"payload": f"id-{MD5[:8]}"}
    assert committed.complete_upload(without.upload, bare).metadata == {}
    assert committed.complete_upload(without.upload, bare).size_bytes == len(DATA)


def test_rc_58_a_chunk_that_was_cut_or_sent_before_is_sent_again(server: ChunkedServer) -> None:
    sending = begin(server)
    stop = StopRequested("paused")

    with pytest.raises(StopRequested) as raised:
        sending.destination.put_part(sending.upload, Part(1, ByteRange(0, PART)), FailingBody(PART, PART - 999, stop))
    server.chunk_script.append(Reply(hang_up=True))
    with pytest.raises(TransportError):
        sending.put(1)
    for number in (1, 1, 2, 1, 2, 3, 4):
        server.chunk_script.append(Reply())
        sending.put(number)

    assert raised.value is stop
    assert server.stored(NAME) == DATA


def test_headers_and_method_are_those_of_profile_and_transfer(server: ChunkedServer) -> None:
    profile = Profile(
        "up", {**PROFILE.values, "method": "PUT", "bearer": "secret", "header.Content-Type": "text/plain"}
    )

    begin(server, profile=profile, headers={"X-Mine": "1"}).put(1)
    begin(server, profile=profile, method="PATCH")

    assert [form.method for form in server.forms] == ["PUT", "PUT", "PATCH"]
    for form in server.forms[:2]:
        assert form.headers["authorization"] == "Bearer secret"
        assert (form.headers["x-token"], form.headers["x-mine"]) == ("let-me-in", "1")
        assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
    with pytest.raises(InvalidValue):
        open_at(server, method="DELETE")


@pytest.mark.parametrize(
    ("url", "stored", "bucket", "key"),
    [
        ("chunked+http://Host:81/in?k=v", "chunked+http://Host:81/in?k=v#/", "/in", "/"),
        ("chunked+https://host/in/#", "chunked+https://host/in/#/", "/in/", "/"),
        ("chunked+https://host/in#a%20b.bin", "chunked+https://host/in#a%20b.bin", "/in", "a b.bin"),
        ("chunked+https://host/in#/a.bin", "chunked+https://host/in#/a.bin", "/in", "a.bin"),
    ],
)
def test_the_fragment_names_the_file_and_without_one_the_source_does(
    url: str, stored: str, bucket: str, key: str
) -> None:
    location = parse(url, "destination")

    assert (location.url, location.bucket, location.key) == (stored, bucket, key)
    assert "k=v" not in location.shown
    assert parse(location.url, "destination").identity == location.identity
    with pytest.raises(InvalidValue):
        parse(f"{url.partition('#')[0]}#a%0d%0ab", "destination")
