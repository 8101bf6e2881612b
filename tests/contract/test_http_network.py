"""How a host is reached: trust, client certificates, proxies, address families, processes; and what the log shows."""

from __future__ import annotations

import base64
import logging
import os
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.base import Body, ByteRange, Options, Profile, Services, Validator
from providers.errors import CertificateRefused, ProviderUnavailable, ResponseStatusError, TransportError
from providers.http import HttpSource
from providers.schemes import parse
from providers.transport import Transport, TransportConfig, transport_for
from tests.servers.certificates import CertificateAuthority, KeyPair
from tests.servers.process import wait_until
from tests.servers.range_server import RangeServer

DATA = os.urandom(300_000)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority: CertificateAuthority) -> KeyPair:
    return authority.issue()


def serving(pair: KeyPair, clients: CertificateAuthority | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    return context


@pytest.fixture
def secure(ours: KeyPair) -> Iterator[RangeServer]:
    with RangeServer(tls=serving(ours)) as server:
        server.serve("/a.bin", DATA)
        yield server


def transport(**config: Any) -> Transport:
    return Transport(TransportConfig(**{"connect_seconds": 2.0, "read_seconds": 2.0, **config}))


def body_of(server: RangeServer, **config: Any) -> bytes:
    return transport(**config).request("GET", f"{server.base}/a.bin").body


def exhaust(body: Body) -> bytes:
    buffer, data = memoryview(bytearray(1 << 20)), bytearray()
    while count := body.readinto(buffer):
        data += buffer[:count]
    body.close()
    return bytes(data)


def test_a_certificate_nobody_signed_is_refused(secure: RangeServer) -> None:
    with pytest.raises(CertificateRefused, match="certificate refused"):
        body_of(secure)


def test_a_certificate_for_another_name_is_refused(authority: CertificateAuthority) -> None:
    elsewhere = authority.issue("elsewhere", hosts=("elsewhere.invalid",))
    with RangeServer(tls=serving(elsewhere)) as server, pytest.raises(CertificateRefused, match="certificate refused"):
        body_of(server, ca_file=str(authority.certificate))


def test_a_private_authority_is_trusted_by_its_file(secure: RangeServer, authority: CertificateAuthority) -> None:
    trusting = transport(ca_file=str(authority.certificate))

    for _ in range(5):
        assert exhaust(trusting.get_range(f"{secure.base}/a.bin", ByteRange(0, len(DATA)))) == DATA
    assert secure.connections == 1


def test_a_body_cut_under_tls_is_short(secure: RangeServer, authority: CertificateAuthority) -> None:
    secure.fault("/a.bin", cut=100_000)
    body = transport(ca_file=str(authority.certificate)).get_range(f"{secure.base}/a.bin", ByteRange(0, len(DATA)))

    with pytest.raises(TransportError):
        exhaust(body)


def test_a_client_certificate_is_shown_from_two_files_or_one(
    authority: CertificateAuthority, ours: KeyPair, tmp_path: Path
) -> None:
    client = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(client.certificate.read_bytes() + client.key.read_bytes())
    with RangeServer(tls=serving(ours, clients=authority)) as server:
        url = server.serve("/a.bin", DATA)
        files = {"ca_file": str(authority.certificate), "client_cert": str(client.certificate)}
        profile = Profile("mine", {**files, "client_key": str(client.key)})

        stat = HttpSource(parse(url, "source"), profile, Options(), Services(connect_seconds=2.0)).stat()
        body = body_of(server, ca_file=str(authority.certificate), client_cert=str(both))
        with pytest.raises(TransportError):
            body_of(server, ca_file=str(authority.certificate))

    assert (stat.size_bytes, body) == (len(DATA), DATA)
    assert [("client" in str(each.peer_certificate)) for each in server.requests] == [True, True]


@pytest.mark.parametrize("config", [{"ca_file": "/nowhere.pem"}, {"client_cert": ("/nowhere.pem", "/nowhere.key")}])
def test_a_certificate_file_that_is_missing_is_named_as_such(config: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable, match="certificate"):
        transport(**config)


def test_a_redirect_from_https_to_http_is_refused(secure: RangeServer, authority: CertificateAuthority) -> None:
    secure.fault("/moved", status=302, headers={"Location": "http://127.0.0.1:9/x?sig=CANARY"})
    profile = Profile("p", {"ca_file": str(authority.certificate)})
    source = HttpSource(parse(f"{secure.base}/moved", "source"), profile, Options(), Services())

    with pytest.raises(ResponseStatusError, match="https to http") as caught:
        source.stat()

    assert "CANARY" not in str(caught.value)


def test_plain_http_goes_through_the_proxy_with_its_password() -> None:
    with RangeServer() as proxy:
        proxy.serve("/a.bin", DATA)
        through = transport(proxy=proxy.base.replace("//", "//me:secret@"))

        body = through.request("GET", "http://nowhere.invalid/a.bin").body

    assert body == DATA
    (request,) = proxy.requests
    assert request.absolute
    assert request.headers["host"] == "nowhere.invalid"
    assert request.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_https_goes_through_a_tunnel_that_sees_no_header(secure: RangeServer, authority: CertificateAuthority) -> None:
    with RangeServer() as proxy:
        config = {"proxy": proxy.base.replace("//", "//me:secret@"), "ca_file": str(authority.certificate)}
        through, headers = transport(**config), {"Authorization": "Bearer CANARY"}

        bodies = [through.request("GET", f"{secure.base}/a.bin", headers=headers).body for _ in range(3)]

    assert bodies == [DATA, DATA, DATA]
    (tunnel,) = proxy.requests
    assert (tunnel.method, tunnel.headers["proxy-authorization"][:6]) == ("CONNECT", "Basic ")
    assert "CANARY" not in str(tunnel.headers)
    assert "proxy-authorization" not in secure.requests[0].headers


def test_a_proxy_that_speaks_tls_is_verified_by_the_same_authority(
    secure: RangeServer, authority: CertificateAuthority, ours: KeyPair
) -> None:
    with RangeServer(tls=serving(ours)) as proxy:
        proxy.serve("/a.bin", DATA)
        config = {"proxy": proxy.base, "ca_file": str(authority.certificate)}

        assert transport(**config).request("GET", "http://nowhere.invalid/a.bin").body == DATA
        with pytest.raises(TransportError):
            transport(proxy=proxy.base).request("GET", "http://nowhere.invalid/a.bin")


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_is_a_transport_error_without_its_password(secure: RangeServer, status: int) -> None:
    with RangeServer() as proxy:
        proxy.fault(secure.base.removeprefix("https://"), status=status)
        through = transport(proxy=proxy.base.replace("//", "//me:CANARY@"))

        with pytest.raises(TransportError) as caught:
            through.request("GET", f"{secure.base}/a.bin?sig=CANARY")

    assert "CANARY" not in f"{caught.value!r}{through.config!r}"


def test_ipv6_can_be_switched_off() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        url = f"http://[::1]:{listener.getsockname()[1]}/"

        with pytest.raises(TransportError):
            transport(ipv6=False).request("GET", url)
        assert not select.select([listener], [], [], 0)[0]

        with pytest.raises(TransportError):  # it connects, and nobody answers
            transport(ipv6=True, read_seconds=0.1).request("GET", url)
        assert select.select([listener], [], [], 0)[0]


def test_ipv4_still_works_with_ipv6_off() -> None:
    with RangeServer() as server:
        server.serve("/a.bin", DATA)

        assert body_of(server, ipv6=False) == DATA


def test_a_signed_query_never_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RangeServer() as server:
        url = server.serve("/a.bin", DATA) + "?X-Amz-Signature=CANARY"
        server.fault("/a.bin", headers={"X-Odd": "1\r\nno colon here"}, times=1)

        for _ in range(2):
            transport().request("GET", url)

    assert "/a.bin" in caplog.text  # the log is on
    assert "CANARY" not in caplog.text


def test_equal_configs_share_a_transport_and_its_certificates() -> None:
    first, second = transport_for(TransportConfig(ipv6=False)), transport_for(TransportConfig(ipv6=False))

    assert first is second
    assert first is not transport_for(TransportConfig(ipv6=True))


def test_a_forked_process_builds_its_own_transport() -> None:
    script = """
import os
from providers.transport import TransportConfig, transport_for
before = transport_for(TransportConfig())
child = os.fork()
if not child:
    os._exit(0 if transport_for(TransportConfig()) is not before else 1)
assert os.waitpid(child, 0)[1] == 0
assert transport_for(TransportConfig()) is before
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_the_server_also_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.servers.range_server", "--pattern", "5000", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/pattern.bin"
            source = HttpSource(parse(url, "source"), Profile("p"), Options(), Services())
            stat = source.stat()
            source.read_range(ByteRange(0, 10), validator=stat.validator).close()
            wait_until(lambda: '"bytes=0-9"' in log.read_text(), "the range is in the log")
        finally:
            process.terminate()

    assert (stat.size_bytes, stat.validator.kind) == (5000, "etag")


def test_nothing_is_asked_for_an_empty_range() -> None:
    body = transport().get_range("http://nowhere.invalid/", ByteRange(5, 5), validator=Validator("etag", '"x"'))

    assert body.size_bytes == 0
    assert body.readinto(memoryview(bytearray(10))) == 0
