"""An HTTP source that behaves: what is learnt before the first byte, redirects, credentials, connections, memory."""

from __future__ import annotations

import base64
import os
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from providers.base import ByteRange, ObjectStat, Options, Profile, Services, Validator
from providers.errors import (
    Forbidden,
    InvalidRange,
    InvalidValue,
    NotFound,
    ProviderError,
    ResponseParseError,
    ResponseStatusError,
    ServerFault,
)
from providers.http import HttpSource, source
from providers.schemes import parse
from providers.transport import Reply, Transport, TransportConfig
from tests.servers.range_server import Pattern, RangeServer

DATA = os.urandom(100_000)
STRONG = '"strong-1"'
DATE = "Fri, 21 Nov 2025 08:00:00 GMT"
SERVICES = Services(connect_seconds=2.0, read_seconds=2.0, redirects={})
MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[RangeServer]:
    """Another host: same address, another port."""
    with RangeServer() as other:
        yield other


def source_of(
    url: str, *, profile: dict[str, str] | None = None, services: Services | None = None, **options: Any
) -> HttpSource:
    return source(
        parse(url, "source"), Profile("p", profile or {}), Options(**options), services or Services(connect_seconds=2.0)
    )


def read(from_: HttpSource, span: ByteRange, etag: str = STRONG) -> bytes:
    buffer, data = memoryview(bytearray(MIB)), bytearray()
    body = from_.read_range(span, validator=Validator("etag", etag))
    while count := body.readinto(buffer):
        data += buffer[:count]
    body.close()
    return bytes(data)


def asked(server: RangeServer) -> list[tuple[str, str | None]]:
    return [(each.method, each.range) for each in server.requests]


HEAD, PROBE, GET = ("HEAD", None), ("GET", "bytes=0-0"), ("GET", None)
NOTHING: dict[str, Any] = {"etag": None, "last_modified": None}
NO_RANGES: dict[str, Any] = {"ranges": False, "headers": {"Accept-Ranges": "none"}}


@pytest.mark.parametrize(
    ("served", "faults", "requests", "size", "ranges", "validator"),
    [
        pytest.param({}, [], [HEAD], 100_000, True, ("etag", STRONG), id="HEAD says all"),
        pytest.param({"etag": f"W/{STRONG}"}, [], [HEAD], 100_000, True, ("last_modified", DATE), id="weak ETag"),
        pytest.param({"etag": None}, [], [HEAD], 100_000, True, ("last_modified", DATE), id="no ETag"),
        pytest.param({"etag": "bare"}, [], [HEAD], 100_000, True, ("last_modified", DATE), id="ETag without quotes"),
        pytest.param(NOTHING, [], [HEAD], 100_000, False, ("none", ""), id="nothing pins"),
        pytest.param({"ranges": False}, [], [HEAD, PROBE], 100_000, False, ("etag", STRONG), id="silent about ranges"),
        pytest.param(NO_RANGES, [], [HEAD], 100_000, False, ("etag", STRONG), id="says no ranges"),
        pytest.param(
            {}, [{"method": "HEAD", "without": ("Accept-Ranges",)}], [HEAD, PROBE], 100_000, True, ("etag", STRONG),
            id="ranges proven by the probe",
        ),
        *(
            pytest.param(
                {}, [{"method": "HEAD", "status": status}], [HEAD, PROBE], 100_000, True, ("etag", STRONG),
                id=f"HEAD answers {status}",
            )
            for status in (400, 401, 403, 405, 501)
        ),
        pytest.param(
            {}, [{"method": "HEAD", "chunked": True}], [HEAD, PROBE], 100_000, True, ("etag", STRONG),
            id="HEAD without a length",
        ),
        pytest.param(
            {}, [{"method": "HEAD", "headers": {"Content-Encoding": "gzip"}}], [HEAD], None, False, ("none", ""),
            id="HEAD names a coding",
        ),
        pytest.param(
            {}, [{"method": "HEAD", "status": 405}, {"ranged": True, "status": 416}], [HEAD, PROBE, GET],
            100_000, False, ("etag", STRONG), id="the probe is refused, a plain GET is not",
        ),
        pytest.param(
            {"ranges": False}, [{"chunked": True}], [HEAD, PROBE], None, False, ("etag", STRONG), id="no length at all"
        ),
        pytest.param(
            {}, [{"method": "HEAD", "status": 405}, {"total": "*"}], [HEAD, PROBE], None, False, ("etag", STRONG),
            id="a range of an object of unknown size",
        ),
    ],
)  # fmt: skip
def test_stat_asks_no_more_than_it_must_and_believes_only_what_is_proven(
    server: RangeServer,
    served: dict[str, Any],
    faults: list[dict[str, Any]],
    requests: list[tuple[str, str | None]],
    size: int | None,
    ranges: bool,
    validator: tuple[Any, str],
) -> None:
    url = server.serve("/a.bin", DATA, **{"etag": STRONG, **served})
    for fault in faults:
        server.fault("/a.bin", **fault)

    stat = source_of(url).stat()

    assert (stat.size_bytes, stat.accepts_ranges, stat.validator) == (size, ranges, Validator(*validator))
    assert asked(server) == requests
    assert stat.name == "a.bin"


def test_an_empty_object_is_confirmed_by_a_second_request(server: RangeServer) -> None:
    stat = source_of(server.serve("/empty", b"", etag=STRONG)).stat()

    assert (stat.size_bytes, stat.accepts_ranges) == (0, False)
    assert asked(server) == [HEAD, PROBE]


def test_a_known_size_skips_head(server: RangeServer) -> None:
    stat = source_of(server.serve("/a.bin", DATA, etag=STRONG), size_bytes=100_000).stat()

    assert (stat.size_bytes, stat.accepts_ranges, stat.validator) == (100_000, True, Validator("etag", STRONG))
    assert asked(server) == [PROBE]


def test_a_known_size_that_is_wrong_is_refused(server: RangeServer) -> None:
    with pytest.raises(InvalidValue, match="size_bytes: 5"):
        source_of(server.serve("/a.bin", DATA), size_bytes=5).stat()


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (410, NotFound), (500, ServerFault), (418, ResponseStatusError)]
)
def test_a_head_that_fails_for_a_reason_is_not_hidden_behind_a_get(
    server: RangeServer, status: int, kind: type[ProviderError]
) -> None:
    url = server.serve("/a.bin", DATA)
    server.fault("/a.bin", status=status)

    with pytest.raises(kind):
        source_of(url).stat()

    assert asked(server) == [HEAD]


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_told_so(server: RangeServer, status: int) -> None:
    url = server.serve("/a.bin", DATA)
    server.fault("/a.bin", status=status)

    with pytest.raises(Forbidden) as caught:
        source_of(url + "?sig=CANARY").stat()

    assert "CANARY" not in str(caught.value)


def test_a_probe_that_gets_another_range_is_refused(server: RangeServer) -> None:
    url = server.serve("/a.bin", DATA)
    server.fault("/a.bin", shift_start=7)

    with pytest.raises(InvalidRange):
        source_of(url, size_bytes=100_000).stat()


def test_the_name_comes_from_content_disposition_else_from_the_final_url(server: RangeServer) -> None:
    url = server.serve("/a.bin", DATA, headers={"Content-Disposition": 'attachment; filename="../named.bin"'})
    server.serve("/final%20name.bin", DATA)
    server.fault("/moved", status=302, headers={"Location": "/final%20name.bin?x=1"})

    assert source_of(url).stat().name == ".._named.bin"
    assert source_of(f"{server.base}/moved").stat().name == "final name.bin"


def test_ranges_are_read_over_one_connection(server: RangeServer) -> None:
    from_ = source_of(server.serve("/a.bin", DATA, etag=STRONG))
    from_.stat()

    got = [read(from_, ByteRange(at, at + 10_000)) for at in range(0, 100_000, 10_000)]

    assert b"".join(got) == DATA
    assert server.connections == 1


def test_a_body_left_half_read_never_feeds_the_next_reply(server: RangeServer) -> None:
    from_ = source_of(server.serve("/a.bin", Pattern(8 * MIB), etag=STRONG))
    body = from_.read_range(ByteRange(0, 8 * MIB), validator=Validator("etag", STRONG))
    body.readinto(memoryview(bytearray(1000)))

    body.close()
    body.close()

    assert read(from_, ByteRange(5, 50)) == Pattern(8 * MIB).read(5, 50)
    assert server.connections == 2


def test_threads_share_a_transport(server: RangeServer) -> None:
    from_ = source_of(server.serve("/a.bin", Pattern(8 * MIB), etag=STRONG))
    got: dict[int, bytes] = {}

    def part(number: int) -> None:
        got[number] = read(from_, ByteRange(number * MIB, (number + 1) * MIB))

    threads = [threading.Thread(target=part, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert b"".join(got[number] for number in range(8)) == Pattern(8 * MIB).read(0, 8 * MIB)


def test_memory_is_flat_in_the_size_of_a_range(server: RangeServer) -> None:
    from_ = source_of(server.serve("/a.bin", Pattern(24 * MIB), etag=STRONG))
    buffer = memoryview(bytearray(MIB))
    body = from_.read_range(ByteRange(0, 24 * MIB), validator=Validator("etag", STRONG))
    tracemalloc.start()
    while body.readinto(buffer):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 6 * MIB  # of which the server in this process holds up to 3


def test_headers_profile_and_options_reach_the_server(server: RangeServer) -> None:
    url = server.serve("/a.bin", DATA, etag=STRONG)
    profile = {"username": "me", "password": "pä:ss", "header.X-Tenant": "t1", "header.X-Both": "profile"}
    from_ = source_of(
        url, profile=profile, headers={"x-both": "transfer"}, accept="application/x-thing", user_agent="mine/1"
    )

    from_.stat()
    read(from_, ByteRange(0, 10))

    for request in server.requests:
        sent = request.headers
        assert sent["authorization"] == "Basic " + base64.b64encode("me:pä:ss".encode()).decode()
        assert (sent["x-tenant"], sent["x-both"]) == ("t1", "transfer")
        assert (sent["accept"], sent["user-agent"], sent["accept-encoding"]) == (
            "application/x-thing",
            "mine/1",
            "identity",
        )


def test_the_user_agent_names_us_by_default(server: RangeServer) -> None:
    source_of(server.serve("/a.bin", DATA), profile={"bearer": "token"}).stat()

    assert server.requests[0].headers["user-agent"].startswith("haulage")
    assert server.requests[0].headers["authorization"] == "Bearer token"


def test_another_verb_skips_head_and_is_used_for_the_data(server: RangeServer) -> None:
    from_ = source_of(server.serve("/a.bin", DATA, etag=STRONG), method="POST")

    assert from_.stat().size_bytes == 100_000
    assert read(from_, ByteRange(3, 9)) == DATA[3:9]
    assert asked(server) == [("POST", "bytes=0-0"), ("POST", "bytes=3-8")]


@pytest.mark.parametrize(
    ("options", "profile", "field"),
    [
        ({"method": "DELETE"}, {}, "method"),
        ({"headers": {"Range": "bytes=0-1"}}, {}, "headers"),
        ({"headers": {"content-length": "1"}}, {}, "headers"),
        ({"headers": {"bad name": "x"}}, {}, "headers"),
        ({"headers": {"X-Split": "CANARY\r\nEvil: 1"}}, {}, "headers"),
        ({}, {"header.Host": "CANARY"}, "profile p"),
        ({}, {"proxy": "socks5://u:CANARY@h:1"}, "proxy"),
    ],
)
def test_bad_values_are_refused_before_any_request(
    options: dict[str, Any], profile: dict[str, str], field: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        source_of("http://127.0.0.1:9/x", profile=profile, **options)

    assert caught.value.field == field
    assert "CANARY" not in str(caught.value)


def redirect(server: RangeServer, path: str, location: str, status: int = 302, **fields: Any) -> str:
    server.fault(path, status=status, headers={"Location": location}, **fields)
    return server.base + path


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_once_and_remembered(server: RangeServer, other: RangeServer, status: int) -> None:
    target = other.serve("/real.bin", DATA, etag=STRONG)
    from_ = source_of(redirect(server, "/a", target, status))

    stat = from_.stat()
    got = read(from_, ByteRange(10, 90))

    assert stat == ObjectStat(100_000, Validator("etag", STRONG), True, "real.bin", "application/octet-stream", STRONG)
    assert got == DATA[10:90]
    assert asked(server) == [HEAD]
    assert asked(other) == [HEAD, ("GET", "bytes=10-89")]


@pytest.mark.parametrize("status", [403, 404])
def test_a_remembered_target_that_has_expired_sends_us_back_to_the_origin_once(
    server: RangeServer, other: RangeServer, status: int
) -> None:
    origin = redirect(server, "/a", other.serve("/old", DATA, etag=STRONG), times=1)
    redirect(server, "/a", other.serve("/new", DATA, etag=STRONG))
    from_ = source_of(origin)
    from_.stat()
    other.fault("/old", status=status)

    got = read(from_, ByteRange(0, 50))

    assert got == DATA[:50]
    assert [each.path for each in server.requests] == ["/a", "/a"]
    assert [each.path for each in other.requests] == ["/old", "/old", "/new"]


def test_a_target_that_stays_forbidden_is_an_error_and_no_loop(server: RangeServer, other: RangeServer) -> None:
    origin = redirect(server, "/a", other.serve("/old", DATA, etag=STRONG))
    from_ = source_of(origin)
    from_.stat()
    other.fault("/old", status=403)

    with pytest.raises(Forbidden):
        read(from_, ByteRange(0, 50))

    assert len(server.requests) == 2


def test_remembered_targets_are_not_lent_to_somebody_with_another_credential(
    server: RangeServer, other: RangeServer
) -> None:
    origin = redirect(server, "/a", other.serve("/signed", DATA, etag=STRONG))
    shared = Services(redirects={})
    source_of(origin, profile={"bearer": "mine"}, services=shared).stat()

    source_of(origin, profile={"bearer": "theirs"}, services=shared).stat()

    assert [each.headers["authorization"] for each in server.requests] == ["Bearer mine", "Bearer theirs"]


def test_no_secret_goes_to_another_host(server: RangeServer, other: RangeServer) -> None:
    redirect(other, "/back", server.serve("/end.bin", DATA, etag=STRONG))
    origin = redirect(server, "/a", redirect(server, "/b", other.base + "/back"))
    secrets = {"Cookie": "CANARY", "X-Api-Key": "CANARY"}
    from_ = source_of(origin, profile={"bearer": "CANARY", "header.X-Profile": "CANARY"}, headers=secrets, accept="a/b")

    from_.stat()

    first, second, back = server.requests
    assert "CANARY" in str(first.headers)
    assert "CANARY" in str(second.headers)  # still the same host
    (foreign,) = other.requests
    assert "CANARY" not in str(foreign.headers)
    assert (foreign.headers["accept"], foreign.headers["accept-encoding"]) == ("a/b", "identity")
    assert "CANARY" not in str(back.headers)  # it came from a stranger


def test_no_secret_goes_to_a_remembered_target_on_another_host(server: RangeServer, other: RangeServer) -> None:
    origin = redirect(server, "/a", other.serve("/end.bin", DATA, etag=STRONG))
    from_ = source_of(origin, profile={"bearer": "CANARY"})

    from_.stat()
    read(from_, ByteRange(0, 10))

    assert len(other.requests) == 2
    assert "CANARY" not in str([each.headers for each in other.requests])


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("ftp://host/x?sig=CANARY", ResponseStatusError),
        ("file:///etc/passwd", ResponseStatusError),
        ("http://", ResponseStatusError),
        ("http://host:99999/?sig=CANARY", ResponseParseError),
        ("http://[broken?sig=CANARY", ResponseParseError),
    ],
)
def test_a_redirect_to_anything_but_http_is_refused(
    server: RangeServer, location: str, kind: type[ProviderError]
) -> None:
    with pytest.raises(kind) as caught:
        source_of(redirect(server, "/a", location)).stat()

    assert "CANARY" not in str(caught.value)


def test_a_redirect_without_a_location_is_refused(server: RangeServer) -> None:
    server.fault("/a", status=302)

    with pytest.raises(ResponseParseError):
        source_of(f"{server.base}/a").stat()


def test_redirects_end_after_ten_hops(server: RangeServer) -> None:
    for hop in range(12):
        redirect(server, f"/{hop}", f"/{hop + 1}")
    server.serve("/12", DATA, etag=STRONG)

    assert source_of(f"{server.base}/2").stat().size_bytes == 100_000
    with pytest.raises(ResponseStatusError) as caught:
        source_of(f"{server.base}/1").stat()
    assert caught.value.status == 508


def test_an_environment_proxy_is_used_where_allowed(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", server.base)
    monkeypatch.setenv("no_proxy", "direct.invalid")
    server.serve("/a.bin", DATA)

    def answered(host: str, **config: Any) -> Reply:
        return Transport(TransportConfig(connect_seconds=2.0, **config)).request("GET", f"http://{host}/a.bin")

    assert answered("anywhere.invalid").body == DATA
    assert server.requests[0].absolute
    with pytest.raises(ProviderError):
        answered("direct.invalid")
    with pytest.raises(ProviderError):
        answered("anywhere.invalid", trust_env_proxies=False)
