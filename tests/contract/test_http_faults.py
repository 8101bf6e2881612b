"""What a bad server can do to a range: each ends in its own error, and no wrong byte is ever delivered."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from providers.base import Body, ByteRange, Options, Profile, Services, Validator
from providers.errors import (
    InvalidRange,
    LengthUnknown,
    ProviderError,
    ServerFault,
    SourceChanged,
    Stalled,
    Throttled,
    TransportError,
)
from providers.http import HttpSource
from providers.schemes import parse
from providers.transport import TransportConfig, transport_for
from tests.servers.range_server import RangeServer

DATA = os.urandom(300_000)
SPAN = ByteRange(100_000, 200_000)
WHOLE = ByteRange(0, len(DATA))
STRONG = '"strong-1"'
PINNED = Validator("etag", STRONG)
QUICK = Services(connect_seconds=2.0, read_seconds=0.5, stall_seconds=0.4, minimum_bytes_per_second=2000)


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


def source_of(url: str, services: Services = QUICK, profile: Profile | None = None, **options: Any) -> HttpSource:
    return HttpSource(parse(url, "source"), profile or Profile("none"), Options(**options), services)


@dataclass
class Delivered:
    """What came out of a body, and how it ended."""

    data: bytes
    error: ProviderError | None


def deliver(body: Body) -> Delivered:
    buffer, data = memoryview(bytearray(64 << 10)), bytearray()
    try:
        while count := body.readinto(buffer):
            data += buffer[:count]
    except ProviderError as exc:
        return Delivered(bytes(data), exc)
    finally:
        body.close()
    return Delivered(bytes(data), None)


def fetch(source: HttpSource, span: ByteRange = SPAN, validator: Validator = PINNED) -> Delivered:
    try:
        body = source.read_range(span, validator=validator)
    except ProviderError as exc:
        return Delivered(b"", exc)
    return deliver(body)


FAULTS: dict[str, tuple[dict[str, Any], type[ProviderError]]] = {
    "200 to a range": ({"ignore_range": True}, InvalidRange),
    "Content-Range starts elsewhere": ({"shift_start": 1}, InvalidRange),
    "Content-Range names another total": ({"total": "300001"}, SourceChanged),
    "Content-Range is missing": ({"without": ("Content-Range",)}, InvalidRange),
    "Content-Range is no range": ({"headers": {"Content-Range": "bytes 5-1/7"}}, InvalidRange),
    "several ranges": (
        {"headers": {"Content-Type": "multipart/byteranges"}, "without": ("Content-Range",)},
        InvalidRange,
    ),
    "fewer bytes announced": ({"announce": -10}, TransportError),
    "more bytes announced": ({"announce": 10}, InvalidRange),
    "chunked and longer": ({"announce": 10, "chunked": True}, InvalidRange),
    "chunked and cut between chunks": ({"cut": 50_000, "chunked": True}, TransportError),
    "chunked and cut at the very end": ({"cut": SPAN.size_bytes, "chunked": True}, TransportError),
    "cut in the body": ({"cut": 50_000}, TransportError),
    "cut before the body": ({"cut": 0}, TransportError),
    "cut before the last byte": ({"cut": SPAN.size_bytes - 1}, TransportError),
    "reset in the body": ({"reset": 50_000}, TransportError),
    "end of connection as end of body, and cut": ({"close_delimited": True, "cut": 50_000}, TransportError),
    "compressed": ({"gzip": True}, InvalidRange),
    "labelled as compressed": ({"headers": {"Content-Encoding": "br"}}, InvalidRange),
    "another ETag": ({"headers": {"ETag": '"strong-2"'}}, SourceChanged),
    "the ETag turned weak": ({"headers": {"ETag": f"W/{STRONG}"}}, SourceChanged),
    "no ETag": ({"without": ("ETag",)}, SourceChanged),
    "stall in the body": ({"stall": 50_000}, Stalled),
    "stall before the body": ({"stall": 0}, Stalled),
    "no answer": ({"stall_head": True}, TransportError),
    "drip": ({"drip_seconds": 0.01}, Stalled),
    "500": ({"status": 500}, ServerFault),
    "502": ({"status": 502}, ServerFault),
    "503": ({"status": 503}, ServerFault),
    "503 with Retry-After": ({"status": 503, "headers": {"Retry-After": "7"}}, Throttled),
    "429": ({"status": 429}, Throttled),
    "412": ({"status": 412}, SourceChanged),
    "416": ({"status": 416}, InvalidRange),
    "204": ({"status": 204}, ProviderError),
}


@pytest.mark.parametrize(("fault", "kind"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_a_range_ends_in_its_own_error_and_no_wrong_byte(
    server: RangeServer, fault: dict[str, Any], kind: type[ProviderError]
) -> None:
    url = server.serve("/a.bin", DATA, etag=STRONG)
    source = source_of(url, size_bytes=len(DATA))
    server.fault("/a.bin", times=1, **fault)

    got = fetch(source)

    assert type(got.error) is kind if kind is not ProviderError else got.error is not None
    assert DATA[SPAN.start : SPAN.stop].startswith(got.data)
    assert len(got.data) < SPAN.size_bytes
    assert "127.0.0.1" in str(got.error) or isinstance(got.error, Stalled)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_after_a_fault_the_same_transport_reads_the_right_bytes(
    server: RangeServer, fault: tuple[dict[str, Any], type[ProviderError]]
) -> None:
    url = server.serve("/a.bin", DATA, etag=STRONG)
    source = source_of(url, size_bytes=len(DATA))
    server.fault("/a.bin", times=1, **fault[0])

    fetch(source)

    assert fetch(source) == Delivered(DATA[SPAN.start : SPAN.stop], None)


HARMLESS: dict[str, dict[str, Any]] = {
    "chunked": {"chunked": True},
    "chunked in single bytes": {"chunked": True, "drip_seconds": 1e-9},
    "total not named": {"total": "*"},
    "end of connection as end of body": {"close_delimited": True},
    "identity coding": {"headers": {"Content-Encoding": "identity"}},
}


@pytest.mark.parametrize("oddity", HARMLESS.values(), ids=HARMLESS)
def test_an_odd_but_provable_reply_is_taken(server: RangeServer, oddity: dict[str, Any]) -> None:
    data = DATA[:5000]
    source = source_of(server.serve("/a.bin", data, etag=STRONG))
    server.fault("/a.bin", times=1, **oddity)

    first, second = fetch(source, ByteRange(10, 4000)), fetch(source, ByteRange(4000, 5000))

    assert first == Delivered(data[10:4000], None)
    assert second == Delivered(data[4000:], None)


def test_bytes_after_the_end_of_a_reply_are_never_read_as_the_next_one() -> None:
    answered = threading.Event()
    with RangeServer(log=lambda _: answered.set()) as server:
        source = source_of(server.serve("/a.bin", DATA, etag=STRONG))
        server.fault("/a.bin", times=1, surplus=b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")

        first = fetch(source)
        assert answered.wait(5)  # the surplus has left; were it later still, the next reply's checks would refuse it
        second = fetch(source)

        assert first == second == Delivered(DATA[SPAN.start : SPAN.stop], None)
        assert server.connections == 2


def test_a_200_is_taken_for_a_range_that_is_the_whole_object(server: RangeServer) -> None:
    source = source_of(server.serve("/a.bin", DATA, etag=STRONG, ranges=False))

    assert fetch(source, WHOLE) == Delivered(DATA, None)


def test_a_200_that_starts_like_the_range_but_goes_on_is_refused(server: RangeServer) -> None:
    source = source_of(server.serve("/a.bin", DATA, etag=STRONG, ranges=False))

    assert type(fetch(source, ByteRange(0, 1000)).error) is InvalidRange


@pytest.mark.parametrize("ignores_conditions", [False, True])
@pytest.mark.parametrize("kind", ["etag", "last_modified"])
def test_a_source_that_was_replaced_is_never_mixed(server: RangeServer, kind: Any, ignores_conditions: bool) -> None:
    old, new = "Fri, 21 Nov 2025 08:00:00 GMT", "Fri, 21 Nov 2025 08:00:05 GMT"
    url = server.serve("/a.bin", DATA, etag=STRONG, last_modified=old)
    server.fault("/a.bin", ignore_conditions=ignores_conditions)
    pinned = Validator(kind, STRONG if kind == "etag" else old)
    source = source_of(url)

    before = fetch(source, validator=pinned)
    server.serve("/a.bin", os.urandom(len(DATA)), etag='"strong-2"', last_modified=new)
    after = fetch(source, validator=pinned)

    assert before == Delivered(DATA[SPAN.start : SPAN.stop], None)
    assert after.data == b""
    assert type(after.error) is SourceChanged


def test_conditions_are_sent_with_every_range(server: RangeServer) -> None:
    url = server.serve("/a.bin", DATA, etag=STRONG)
    source = source_of(url)

    fetch(source)
    fetch(source, validator=Validator("last_modified", "Fri, 21 Nov 2025 08:00:00 GMT"))

    by_etag, by_date = server.requests
    assert (by_etag.headers["if-match"], by_etag.headers["accept-encoding"]) == (STRONG, "identity")
    assert by_date.headers["if-unmodified-since"] == "Fri, 21 Nov 2025 08:00:00 GMT"
    assert (by_etag.range, by_date.range) == (SPAN.header, SPAN.header)


def test_a_shrunken_object_is_a_change_where_its_size_was_known(server: RangeServer) -> None:
    url = server.serve("/a.bin", DATA[:50_000], etag=STRONG)

    assert type(fetch(source_of(url, size_bytes=len(DATA))).error) is SourceChanged
    assert type(fetch(source_of(url)).error) is InvalidRange


def test_the_wait_a_server_asks_for_is_handed_on(server: RangeServer) -> None:
    source = source_of(server.serve("/a.bin", DATA, etag=STRONG))
    server.fault("/a.bin", status=429, headers={"Retry-After": "11"}, times=1)
    server.fault("/a.bin", status=503, times=1, headers={
        "Date": "Fri, 21 Nov 2025 08:00:00 GMT", "Retry-After": "Fri, 21 Nov 2025 08:00:42 GMT",
    })  # fmt: skip

    in_seconds, as_date = fetch(source).error, fetch(source).error

    assert in_seconds is not None
    assert as_date is not None
    assert (in_seconds.status, in_seconds.retry_after_seconds) == (429, 11)
    assert (as_date.status, type(as_date)) == (503, Throttled)
    assert as_date.retry_after_seconds is not None
    assert 40 <= as_date.retry_after_seconds <= 42


@pytest.mark.parametrize("cut", [None, 100_000])
def test_one_stream_without_any_length_is_refused_as_a_cut_could_not_be_told(
    server: RangeServer, cut: int | None
) -> None:
    source = source_of(server.serve("/a.bin", DATA))
    server.fault("/a.bin", close_delimited=True, cut=cut)

    with pytest.raises(LengthUnknown):
        source.read_unsized(validator=Validator("none"))


def test_one_chunked_stream_is_read_to_its_end(server: RangeServer) -> None:
    source = source_of(server.serve("/a.bin", DATA))
    server.fault("/a.bin", chunked=True)

    body = source.read_unsized(validator=Validator("none"))

    assert body.size_bytes == -1
    assert deliver(body) == Delivered(DATA, None)


def test_one_chunked_stream_that_is_cut_is_no_success(server: RangeServer) -> None:
    source = source_of(server.serve("/a.bin", DATA))
    server.fault("/a.bin", chunked=True, cut=100_000)

    got = deliver(source.read_unsized(validator=Validator("none")))

    assert type(got.error) is TransportError
    assert DATA.startswith(got.data)


def test_an_unpinned_object_is_read_whole_and_only_from_its_start(server: RangeServer) -> None:
    source = source_of(server.serve("/a.bin", DATA, etag=None, last_modified=None))

    assert fetch(source, WHOLE, Validator("none")) == Delivered(DATA, None)
    assert type(fetch(source, SPAN, Validator("none")).error) is InvalidRange
    assert type(fetch(source, ByteRange(0, 1000), Validator("none")).error) is SourceChanged
    assert [each.range for each in server.requests] == [None, None]


def test_nobody_there_is_a_transport_error() -> None:
    with RangeServer() as server:
        url = server.serve("/a.bin", DATA) + "?signature=CANARY"

    got = fetch(source_of(url))

    assert type(got.error) is TransportError
    assert "CANARY" not in f"{got.error!r}"


def test_a_store_may_label_its_bytes_with_a_coding_where_the_caller_knows_it(server: RangeServer) -> None:
    url = server.serve("/a.gz", DATA, headers={"Content-Encoding": "gzip"})

    got = deliver(transport_for(TransportConfig()).get_range(url, SPAN, coded=True))

    assert got == Delivered(DATA[SPAN.start : SPAN.stop], None)
