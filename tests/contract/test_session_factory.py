"""An application's own requests session (RC-14): what of it is used, and that our checks hold with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from requests.adapters import HTTPAdapter

from providers.base import ByteRange, BytesBody, Options, Part, Profile, Services, UploadPlan, Validator
from providers.errors import InvalidRange, InvalidValue, TransportError
from providers.http import HttpSource, destination, source
from providers.s3_account import account_for
from providers.schemes import parse
from tests.servers.range_server import RangeServer

DATA = os.urandom(300_000)
STRONG = '"strong-1"'
MARKER = {"X-Marker": "of-the-application"}
WHOLE = ByteRange(0, len(DATA))


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[RangeServer]:
    """Another host: same address, another port."""
    with RangeServer() as other:
        yield other


class CountingAdapter(HTTPAdapter):
    """An adapter of the application's own, with urllib3's connections below it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        self.sent.append(request.method)
        return super().send(request, *args, **options)


def session(change: Callable[[requests.Session], object] = lambda _: None) -> Callable[[], requests.Session]:
    """A factory of sessions with the marker, and ``change`` done to them."""

    def make() -> requests.Session:
        made = requests.Session()
        made.headers.update(MARKER)
        change(made)
        return made

    return make


def source_with(factory: Callable[[], Any], url: str, **profile: str) -> HttpSource:
    services = Services(connect_seconds=2.0, read_seconds=2.0, session_factory=factory)
    return source(parse(url, "source"), Profile("p", profile), Options(), services)


def read(from_: HttpSource, span: ByteRange = WHOLE) -> bytes:
    buffer, data = memoryview(bytearray(1 << 20)), bytearray()
    body = from_.read_range(span, validator=Validator("etag", STRONG))
    while count := body.readinto(buffer):
        data += buffer[:count]
    body.close()
    return bytes(data)


def put(factory: Callable[[], Any], url: str) -> None:
    services = Services(connect_seconds=2.0, session_factory=factory)
    to = destination(parse(url, "destination"), Profile("p"), Options(), services)
    upload = to.create_upload(UploadPlan(len(DATA), len(DATA), 1))
    receipt = to.put_part(upload, Part(1, WHOLE), BytesBody(DATA))
    to.complete_upload(upload, [receipt])


def own_adapter(adapter: HTTPAdapter) -> Callable[[], requests.Session]:
    return session(lambda made: made.mount("http://", adapter))


@pytest.mark.parametrize("own", [False, True], ids=["our adapter", "an adapter of its own"])
def test_its_headers_are_on_every_request_and_ours_stand(server: RangeServer, own: bool) -> None:
    adapter = CountingAdapter()
    factory = own_adapter(adapter) if own else session()
    url = server.serve("/a.bin", DATA, etag=STRONG)

    mine = source_with(factory, url)
    assert mine.stat().size_bytes == len(DATA)
    assert read(mine) == DATA
    assert read(mine, ByteRange(10, 20)) == DATA[10:20]
    put(factory, f"{server.base}/b.bin")

    assert server.objects["/b.bin"].content == DATA
    assert {each.method for each in server.requests} >= {"HEAD", "GET", "PUT"}
    assert all(each.headers["x-marker"] == MARKER["X-Marker"] for each in server.requests)
    assert {each.headers["accept-encoding"] for each in server.requests} == {"identity"}
    assert all(each.headers["user-agent"].startswith("haulage") for each in server.requests)
    assert adapter.sent == ([each.method for each in server.requests] if own else [])


@pytest.mark.parametrize("own", [False, True], ids=["our adapter", "an adapter of its own"])
def test_a_reply_that_is_not_the_range_is_refused_all_the_same(server: RangeServer, own: bool) -> None:
    factory = own_adapter(CountingAdapter()) if own else session()
    mine = source_with(factory, server.serve("/a.bin", DATA, etag=STRONG))
    span = ByteRange(1000, 200_000)

    server.fault("/a.bin", method="GET", times=1, shift_start=1)
    with pytest.raises(InvalidRange):
        read(mine, span)
    server.fault("/a.bin", method="GET", times=1, cut=5000)
    with pytest.raises(TransportError):
        read(mine, span)
    server.fault("/a.bin", method="GET", times=1, headers={"Content-Encoding": "gzip"})
    with pytest.raises(InvalidRange):
        read(mine, span)

    assert read(mine, span) == DATA[1000:200_000]


def test_a_redirect_to_another_host_takes_nothing_of_it_along(server: RangeServer, other: RangeServer) -> None:
    there = other.serve("/real.bin", DATA, etag=STRONG)
    server.fault("/moved", status=302, headers={"Location": there})

    def with_secrets(made: requests.Session) -> None:
        made.auth = ("ann", "secret")
        made.cookies.set("token", "secret")

    assert read(source_with(session(with_secrets), f"{server.base}/moved")) == DATA

    asked, seen = server.requests[0].headers, other.requests[0].headers
    assert asked["x-marker"] == MARKER["X-Marker"]
    assert asked["authorization"].startswith("Basic ")
    assert asked["cookie"] == "token=secret"
    assert not {"x-marker", "authorization", "cookie"} & set(seen)


def test_its_auth_stands_back_for_the_profiles(server: RangeServer) -> None:
    url = server.serve("/a.bin", DATA, etag=STRONG)
    factory = session(lambda made: setattr(made, "auth", ("ann", "secret")))

    read(source_with(factory, url))
    read(source_with(factory, url, bearer="of-the-profile"))

    first, second = (each.headers["authorization"] for each in server.requests)
    assert first.startswith("Basic ")
    assert second == "Bearer of-the-profile"


def test_its_proxy_is_used_with_its_password(server: RangeServer) -> None:
    proxy = server.base.replace("http://", "http://ann:secret@")
    server.serve("/a.bin", DATA, etag=STRONG)
    factory = session(lambda made: made.proxies.update({"http": proxy}))

    assert read(source_with(factory, "http://far.example/a.bin")) == DATA

    assert server.requests[0].absolute
    assert server.requests[0].headers["proxy-authorization"].startswith("Basic ")


def test_the_small_calls_of_the_s3_sdk_carry_its_headers_too(server: RangeServer) -> None:
    values = {"endpoint": server.base, "access_key": "a", "secret_key": "b", "region": "r"}
    account = account_for(Profile("p", values), Options(), Services(connect_seconds=2.0, session_factory=session()))

    for client in (account.client, account.patient_client):
        with pytest.raises(ClientError):
            client.head_object(Bucket="bucket", Key="key")
        assert server.requests[-1].headers["x-marker"] == MARKER["X-Marker"]
        assert server.requests[-1].headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (lambda: "no session", "a str"),
        (session(lambda made: made.headers.update({"Range": "bytes=0-1"})), "the header Range"),
        (session(lambda made: made.headers.update({"if-match": "*"})), "the header if-match"),
        (session(lambda made: setattr(made, "verify", False)), "verify=False"),
        (session(lambda made: made.params.update({"a": "b"})), "params"),  # type: ignore[union-attr]
        (session(lambda made: made.hooks["response"].append(print)), "hooks"),
        (lambda: 1 // 0, "raised ZeroDivisionError"),
    ],
)
def test_a_session_that_our_checks_would_not_survive_is_refused(factory: Callable[[], Any], named: str) -> None:
    with pytest.raises(InvalidValue, match=r"requests\.Session|no header|verify=True|headers instead|an adapter") as no:
        source_with(factory, "http://example.org/a.bin")

    assert named in str(no.value)
