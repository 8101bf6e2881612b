"""Profiles as ``haulage doctor`` and ``haulage profiles test`` see them, with a real store and web server."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.ask import Answer, doctor, haulage
from tests.servers.certificates import CertificateAuthority
from tests.servers.process import free_port
from tests.servers.range_server import RangeServer
from tests.servers.s3_server import S3Server

SECRET = "hunter2"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("things")
        server.client().put_object(Bucket="things", Key="a", Body=b"four")
        yield server


def env_of(values: dict[str, str]) -> dict[str, str]:
    return {f"HAULAGE_PROFILE_STORE__{key.upper()}": value for key, value in values.items()}


def look(values: dict[str, str], *argv: str) -> Answer:
    return doctor(env_of(values), "--only", "profiles", *argv)


def try_it(values: dict[str, str], *argv: str) -> Answer:
    return haulage(env_of(values), "profiles", "test", "store", *argv)


def test_a_profile_that_works_is_resolved_reached_and_signed_for(store: S3Server) -> None:
    answer = look({**store.profile, "bucket": "things"})

    assert answer.bad() == set()
    assert answer.checks.keys() == {"profile store", "endpoint of store", "bucket things by store"}
    assert store.secret_key not in answer.out


def test_a_bucket_named_in_the_command_is_tried_with_each_profile(store: S3Server) -> None:
    answer = look(store.profile, "--bucket", "nowhere")

    assert answer.code == 1
    assert answer.bad() == {"bucket nowhere by store"}
    assert "typing error" in answer.checks["bucket nowhere by store"]["try_this"]


def test_a_wrong_secret_key_is_found_by_the_signed_call(store: S3Server) -> None:
    answer = look({**store.profile, "secret_key": SECRET, "bucket": "things"})

    assert answer.bad() == {"bucket things by store"}
    assert "forbidden" in answer.checks["bucket things by store"]["message"]
    assert "secret key" in answer.checks["bucket things by store"]["try_this"]
    assert SECRET not in answer.out


def test_a_secret_file_that_is_missing_or_open_to_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    missing = look({"secret_key_file": str(path)})
    path.write_bytes(b"\xff")
    binary = look({"secret_key_file": str(path)})
    path.write_text(SECRET)
    os.chmod(path, 0o644)
    exposed = look({"secret_key_file": str(path)})
    os.chmod(path, 0o640)
    closed = look({"secret_key_file": str(path)})

    found = [each.checks["profile store"] for each in (missing, binary, exposed, closed)]
    assert [each["status"] for each in found] == ["fail", "fail", "warn", "ok"]
    assert f"{path}: No such file" in found[0]["message"]
    assert "UTF-8" in found[1]["message"]
    assert "chmod 640" in found[2]["try_this"]
    assert all(SECRET not in each.out for each in (exposed, closed))


def test_a_settings_file_that_is_open_to_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "haulage.toml"
    path.write_text(f'redis_url = "redis://:{SECRET}@h"\n')
    found = []
    for mode in (0o644, 0o640):
        path.chmod(mode)
        found.append(doctor({"HAULAGE_CONFIG": str(path)}, "--only", "profiles"))

    assert [each.checks["settings_file"]["status"] for each in found] == ["warn", "ok"]
    assert "chmod 640" in found[0].checks["settings_file"]["try_this"]


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://127.0.0.1:{closed}", "cannot be reached"),
        ("https://no-such-host.invalid", "cannot be resolved"),
        ("ftp://user:hunter2@host", "is no http:// or https:// URL"),
        ("https://localhost:{tls}", "is not trusted"),
        ("https://127.0.0.1:{plain}", "no TLS"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_named_with_the_reason(
    store: S3Server, tmp_path: Path, endpoint: str, message: str
) -> None:
    with tls_server(tmp_path) as (server, _):
        url = endpoint.format(closed=free_port(), tls=server.port, plain=store.port)
        answer = look({"endpoint": url})

    assert answer.code == 1
    assert message in answer.checks["endpoint of store"]["message"]
    assert answer.checks["endpoint of store"]["try_this"]
    assert SECRET not in answer.out


def test_an_endpoint_with_its_own_authority_is_trusted_by_ca_file(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (server, authority):
        answer = look({"endpoint": f"https://localhost:{server.port}", "ca_file": str(authority.certificate)})

    assert answer.bad() == set()


def test_profiles_test_says_what_the_credential_may_do(store: S3Server) -> None:
    bare, listed = try_it(store.profile), try_it(store.profile, "s3://things")
    there, gone = try_it(store.profile, "s3://things/a"), try_it(store.profile, "s3://things/b")
    wrong = try_it({**store.profile, "access_key": "nobody"}, "s3://things/a")

    assert [each.code for each in (bare, listed, there, gone, wrong)] == [0, 0, 0, 1, 1]
    assert "of 4 bytes" in there.out
    assert "not_found" in gone.out
    assert "try: look for a typing error" in gone.out
    assert "forbidden" in wrong.out


def test_profiles_test_asks_a_web_server_with_the_profiles_password() -> None:
    with RangeServer() as web:
        url = web.serve("/a.bin", b"four")
        profile = {"username": "ann", "password": SECRET, "hosts": f"127.0.0.1:{web.port}"}
        answer, nothing = try_it(profile, url), try_it(profile)
        lent = try_it({**profile, "hosts": "elsewhere"}, url)
        asked = [each.method for each in web.requests]

    assert (answer.code, nothing.code, lent.code) == (0, 0, 1)
    assert asked == ["HEAD"]
    assert "profiles test store URL" in nothing.out
    assert "elsewhere" in lent.out
    assert SECRET not in answer.out + nothing.out


def test_an_unknown_profile_is_refused_with_those_that_are_known() -> None:
    answer = haulage(env_of({"region": "r"}), "profiles", "test", "stor")

    assert answer.code == 2
    assert "a profile of this machine: store" in answer.err


def tls_server(folder: Path) -> _TlsServer:
    return _TlsServer(folder)


class _TlsServer:
    """A web server with a certificate of an authority nobody knows."""

    def __init__(self, folder: Path) -> None:
        self.authority = CertificateAuthority(folder / "ca")
        pair = self.authority.issue()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.server = RangeServer(tls=context)

    def __enter__(self) -> tuple[RangeServer, CertificateAuthority]:
        return self.server.__enter__(), self.authority

    def __exit__(self, *exc: object) -> None:
        self.server.__exit__(*exc)
