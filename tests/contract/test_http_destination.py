"""A single PUT as a destination, and the sending half of the transport."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from requests import PreparedRequest

from providers.base import Body, ByteRange, BytesBody, Options, Part, PartReceipt, Profile, Services, UploadPlan
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    Forbidden,
    InvalidPart,
    InvalidValue,
    LengthUnknown,
    NotFound,
    ProviderError,
    ResponseStatusError,
    ServerFault,
    SourceChanged,
    Stalled,
    StopRequested,
    Throttled,
    TransportError,
)
from providers.http import HttpDestination, destination
from providers.schemes import SINGLE_PUT_LIMITS, parse
from providers.transport import Transport, TransportConfig
from tests.servers.range_server import Pattern, RangeServer

MIB = 1 << 20
DATA = os.urandom(300_000)


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


def destination_of(server: RangeServer, path: str = "/up.bin", **options: Any) -> HttpDestination:
    profile = Profile("p", {"bearer": "CANARY"})
    services = Services(connect_seconds=2.0, read_seconds=2.0, stall_seconds=1.0)
    return destination(parse(server.base + path, "destination"), profile, Options(**options), services)


def send(to: HttpDestination, data: bytes = DATA) -> PartReceipt:
    upload = to.create_upload(UploadPlan(len(data), max(1, len(data)), 1))
    return to.put_part(upload, Part(1, ByteRange(0, len(data))), BytesBody(data))


def stored(server: RangeServer, path: str = "/up.bin") -> object:
    return server.objects[path].content if path in server.objects else None


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_an_object_is_published_by_one_put_and_verified(server: RangeServer, size: int) -> None:
    to, data = destination_of(server, content_type="text/x-thing"), os.urandom(size)

    receipt = send(to, data)
    stat = to.complete_upload(to.create_upload(UploadPlan(size, size, 1)), [receipt])

    assert stored(server) == data
    assert (receipt.number, receipt.size_bytes) == (1, size)
    assert receipt.etag == server.objects["/up.bin"].etag
    assert (stat.size_bytes, stat.etag, stat.metadata) == (size, receipt.etag, {"verified": "size"})
    put = server.requests[0]
    assert put.headers["content-length"] == str(size)
    assert "transfer-encoding" not in put.headers
    assert "expect" not in put.headers
    assert (put.headers["content-type"], put.headers["authorization"]) == ("text/x-thing", "Bearer CANARY")
    assert server.connections == 1


def test_sending_again_replaces(server: RangeServer) -> None:
    to = destination_of(server)

    send(to, b"first")
    send(to, b"second")

    assert stored(server) == b"second"


@pytest.mark.parametrize("on_exists", ["fail", "skip"])
def test_what_is_there_is_kept_where_it_must_be(server: RangeServer, on_exists: Any) -> None:
    server.serve("/up.bin", b"old")
    to = destination_of(server, on_exists=on_exists)

    existing = to.existing()
    with pytest.raises(DestinationExists):
        to.create_upload(UploadPlan(3, 3, 1))

    assert existing is not None
    assert existing.size_bytes == 3
    assert stored(server) == b"old"


def test_an_object_that_appears_in_between_is_kept(server: RangeServer) -> None:
    to = destination_of(server, on_exists="fail")
    upload = to.create_upload(UploadPlan(3, 3, 1))
    server.serve("/up.bin", b"old")

    with pytest.raises(DestinationExists):
        to.put_part(upload, Part(1, ByteRange(0, 3)), BytesBody(b"new"))

    assert stored(server) == b"old"


def test_overwrite_sends_no_condition(server: RangeServer) -> None:
    server.serve("/up.bin", b"old")

    send(destination_of(server, on_exists="overwrite"), b"new")

    assert stored(server) == b"new"
    assert "if-none-match" not in server.requests[0].headers


@pytest.mark.parametrize("status", [401, 403, 405, 501])
def test_a_store_that_cannot_be_asked_is_trusted_and_marked_unverified(server: RangeServer, status: int) -> None:
    server.fault("/up.bin", method="HEAD", status=status)
    to = destination_of(server)
    receipt = send(to)

    stat = to.complete_upload(to.create_upload(UploadPlan(1, 1, 1)), [receipt])

    assert to.existing() is None
    assert (stat.size_bytes, stat.metadata) == (len(DATA), {"verified": "no"})


@pytest.mark.parametrize(
    ("there", "kind"),
    [(b"short", ChecksumMismatch), (os.urandom(len(DATA)), ChecksumMismatch), (None, NotFound)],
    ids=["another size", "another ETag", "nothing"],
)
def test_an_object_that_is_not_the_one_sent_fails_the_verification(
    server: RangeServer, there: bytes | None, kind: type[ProviderError]
) -> None:
    to = destination_of(server)
    receipt = send(to)
    server.objects.clear()
    if there is not None:
        server.serve("/up.bin", there)

    with pytest.raises(kind):
        to.complete_upload(to.create_upload(UploadPlan(1, 1, 1)), [receipt])


def test_what_one_put_cannot_do_is_refused_beforehand(server: RangeServer) -> None:
    to = destination_of(server)

    with pytest.raises(LengthUnknown):
        to.create_upload(UploadPlan(None, 1, 1))
    with pytest.raises(InvalidValue):
        to.create_upload(UploadPlan(10, 5, 2))
    with pytest.raises(InvalidPart):
        to.complete_upload(to.create_upload(UploadPlan(1, 1, 1)), [])
    with pytest.raises(InvalidValue):
        destination_of(server, method="GET")
    assert to.limits == SINGLE_PUT_LIMITS
    assert server.requests == []


def test_abort_touches_nothing(server: RangeServer) -> None:
    to = destination_of(server)
    send(to)

    to.abort_upload(to.create_upload(UploadPlan(1, 1, 1)))

    assert stored(server) == DATA


def test_another_verb_publishes_and_is_not_verified(server: RangeServer) -> None:
    server.fault("/up.bin", method="POST", status=201)
    to = destination_of(server, method="POST")

    stat = to.complete_upload(to.create_upload(UploadPlan(1, 1, 1)), [send(to)])

    assert stat.metadata == {"verified": "no"}
    assert [each.method for each in server.requests] == ["POST"]
    assert server.requests[0].bytes_received == len(DATA)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 403}, Forbidden),
        ({"status": 429, "headers": {"Retry-After": "4"}}, Throttled),
        ({"status": 500}, ServerFault),
        ({"status": 412}, SourceChanged),
        ({"status": 302, "headers": {"Location": "/other"}}, ResponseStatusError),
        ({"status": 307, "headers": {"Location": "http://stranger.invalid/?sig=CANARY"}}, ResponseStatusError),
        ({"stall_head": True}, TransportError),
    ],
)
def test_a_put_that_fails_says_why(server: RangeServer, fault: dict[str, Any], kind: type[ProviderError]) -> None:
    server.fault("/up.bin", method="PUT", **fault)

    with pytest.raises(kind) as caught:
        send(destination_of(server))

    assert stored(server) is None
    assert "CANARY" not in str(caught.value)


def test_a_put_moved_within_its_host_goes_there_the_next_time(server: RangeServer) -> None:
    server.fault("/up.bin", method="PUT", status=307, headers={"Location": "/moved.bin"})
    to = destination_of(server)

    with pytest.raises(TransportError) as caught:
        send(to)
    send(to)

    assert caught.value.retryable
    assert stored(server, "/moved.bin") == DATA


class Endless:
    """A body of many MiB out of nothing; it can end early or fail on the way."""

    def __init__(self, size_bytes: int, *, ends_at: int | None = None, error: Exception | None = None) -> None:
        self.size_bytes = size_bytes
        self.sent = 0
        self._ends_at = size_bytes if ends_at is None else ends_at
        self._error = error

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._ends_at - self.sent)
        if not count and self._error:
            raise self._error
        self.sent += count
        return count

    def close(self) -> None: ...


@pytest.fixture
def transport() -> Transport:
    return Transport(TransportConfig(connect_seconds=2.0, read_seconds=2.0, send_seconds=0.5, stall_seconds=0.5))


def test_a_refusal_in_mid_body_is_read_and_the_rest_not_sent(server: RangeServer, transport: Transport) -> None:
    server.fault("/up.bin", status=403, answer_before_body=True)
    body = Endless(256 * MIB)

    reply = transport.put(f"{server.base}/up.bin", body)

    assert reply.status == 403
    assert body.sent < 64 * MIB


def test_a_success_before_the_body_was_sent_is_not_believed(server: RangeServer, transport: Transport) -> None:
    server.fault("/up.bin", status=200, answer_before_body=True)

    with pytest.raises(TransportError):
        transport.put(f"{server.base}/up.bin", Endless(256 * MIB))


@pytest.mark.parametrize(
    ("error", "kind"),
    [(None, TransportError), (StopRequested("paused"), StopRequested), (OSError(5, "disk"), OSError)],
    ids=["ends early", "is stopped", "cannot be read"],
)
def test_a_body_that_fails_on_our_side_fails_the_put_as_itself(
    server: RangeServer, transport: Transport, error: Exception | None, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        transport.put(f"{server.base}/up.bin", Endless(8 * MIB, ends_at=3 * MIB, error=error))
    reply = transport.put(f"{server.base}/up.bin", BytesBody(DATA))

    assert reply.ok
    assert stored(server) == DATA


def test_only_the_bytes_of_the_part_are_sent(server: RangeServer, transport: Transport) -> None:
    transport.put(f"{server.base}/up.bin", BytesBody(DATA), size_bytes=1000)

    assert stored(server) == DATA[:1000]


def test_a_server_that_takes_no_more_bytes_stalls_the_put(server: RangeServer, transport: Transport) -> None:
    server.fault("/up.bin", stall_head=True)  # it reads nothing, so the socket's buffers fill up

    with pytest.raises(TransportError):
        transport.put(f"{server.base}/up.bin", Endless(64 * MIB))


def test_a_server_that_takes_bytes_slowly_stalls_the_put() -> None:
    slow = TransportConfig(send_seconds=5.0, stall_seconds=0.5, minimum_bytes_per_second=1 << 30)
    with RangeServer(throttle=20 * MIB) as server, pytest.raises(Stalled):
        Transport(slow).put(f"{server.base}/up.bin", Endless(64 * MIB))


def test_a_slow_but_steady_server_is_no_fault() -> None:
    """5 MiB at 5 MiB/s take twice the connect and the send time-out."""
    steady = TransportConfig(connect_seconds=0.5, send_seconds=0.5, stall_seconds=0.5)
    with RangeServer(throttle=5 * MIB) as server:
        reply = Transport(steady).put(f"{server.base}/up.bin", Endless(5 * MIB))

        assert reply.ok
        assert stored(server) == bytes(5 * MIB)


def test_a_relay_streams_from_one_server_to_the_other_in_flat_memory(transport: Transport) -> None:
    with RangeServer() as origin, RangeServer(keep_puts=False) as sink:
        body: Body = transport.get_range(origin.serve("/a.bin", Pattern(24 * MIB)), ByteRange(0, 24 * MIB))
        tracemalloc.start()
        reply = transport.put(f"{sink.base}/up.bin", body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert reply.ok
        assert sink.requests[0].bytes_received == 24 * MIB
        assert peak < 8 * MIB  # both servers, in this process, hold up to 3 each


def test_a_signer_sees_the_whole_head_and_the_url_is_sent_as_given(server: RangeServer, transport: Transport) -> None:
    def sign(request: PreparedRequest) -> None:
        seen.append((request.url, request.headers["Content-Length"]))
        request.headers["Authorization"] = "signed"

    seen: list[tuple[str | None, str]] = []
    url = f"{server.base}/a/../b/%7Eup.bin?sig=a%2Fb+c"

    transport.put(url, BytesBody(b"x"), sign=sign)

    assert seen == [(url, "1")]
    assert server.requests[0].path == "/a/../b/%7Eup.bin?sig=a%2Fb+c"
    assert server.requests[0].headers["authorization"] == "signed"


def test_a_small_reply_is_cut_at_its_limit_and_spoils_nothing(server: RangeServer, transport: Transport) -> None:
    url = server.serve("/a.bin", DATA)

    assert transport.request("GET", url, max_bytes=10).body == DATA[:10]
    assert transport.request("GET", url, max_bytes=len(DATA)).body == DATA
    assert server.connections == 2


def test_a_small_reply_that_is_cut_short_is_an_error(server: RangeServer, transport: Transport) -> None:
    server.fault("/a.bin", cut=100)

    with pytest.raises(TransportError):
        transport.request("GET", server.serve("/a.bin", DATA))


def test_what_was_published_is_read_back_as_a_source(server: RangeServer) -> None:
    to = destination_of(server)
    send(to)
    source, buffer = to.as_source(), memoryview(bytearray(len(DATA)))

    stat = source.stat()
    body = source.read_range(ByteRange(0, len(DATA)), validator=stat.validator)
    at = 0
    while count := body.readinto(buffer[at:]):
        at += count
    body.close()

    assert (stat.size_bytes, bytes(buffer)) == (len(DATA), DATA)


def test_a_profile_lends_its_credentials_only_to_the_hosts_it_names(server: RangeServer) -> None:
    at = parse(server.base + "/up.bin", "destination")

    destination(at, Profile("p", {"bearer": "CANARY", "hosts": f"other.test, {at.host}"}), Options(), Services())
    with pytest.raises(InvalidValue, match=r"host: .* profile 'p' is for: other\.test") as caught:
        destination(at, Profile("p", {"bearer": "CANARY", "hosts": "other.test"}), Options(), Services())

    assert "CANARY" not in str(caught.value)
    assert server.requests == []
