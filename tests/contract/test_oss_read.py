"""Reading from OSS, who may, by which address, and with which clock; objects are prepared by Alibaba's SDK."""

from __future__ import annotations

import logging
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from providers.base import ByteRange, Options, UploadId, Validator
from providers.errors import (
    CredentialExpired,
    Forbidden,
    NotFound,
    ProviderError,
    ServerFault,
    SourceChanged,
)
from providers.oss import OssDestination
from providers.registry import open_destination
from providers.schemes import parse
from tests.contract.objects import read_all
from tests.contract.oss_place import (
    BUCKET,
    FIRST,
    LAST,
    PART,
    SERVICES,
    THREE,
    Place,
    error_xml,
    plan_for,
    put,
    upload_all,
)
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.oss_server import DOMAIN, Credential, OssServer

pytest_plugins = ["tests.contract.oss_fixtures"]

ANY = Validator("none")


def test_ranges_are_pinned_by_the_etag(oss: Place) -> None:
    oss.write(bytes(range(256)) * 1024)
    source = oss.source()
    stat = source.stat()

    middle = read_all(source.read_range(ByteRange(1000, 200_000), validator=stat.validator))
    oss.write(bytes(range(256)) * 1023 + bytes(256))

    assert (stat.validator.kind, stat.validator.value) == ("etag", stat.etag)
    assert middle == (bytes(range(256)) * 1024)[1000:200_000]
    with pytest.raises(SourceChanged):
        source.read_range(ByteRange(1000, 200_000), validator=stat.validator)


@pytest.mark.parametrize("span", [ByteRange(5, 6), ByteRange(0, 6), ByteRange(3, 9)])
def test_a_range_that_is_not_there_is_never_answered_by_the_whole_object(oss: Place, span: ByteRange) -> None:
    oss.write(b"short")

    with pytest.raises(ProviderError) as refused:
        oss.source().read_range(span, validator=ANY)

    assert refused.value.code in ("invalid_range", "transport")
    assert refused.value.status in (206, 416)


def test_what_is_labelled_as_coded_is_read_as_it_is_stored(oss: Place) -> None:
    oss.bucket.put_object(oss.key, b"packed bytes", headers={"Content-Encoding": "gzip"})

    assert read_all(oss.source().read_range(ByteRange(0, 6), validator=ANY)) == b"packed"


def test_a_cut_range_is_reported_while_it_is_read(oss_proxied: Place, oss_proxy: LoggingProxy) -> None:
    oss_proxied.write(bytes(4 << 20))
    oss_proxy.cut_after(1 << 20, "GET", oss_proxied.key)

    body = oss_proxied.source().read_range(ByteRange(0, 4 << 20), validator=ANY)

    with pytest.raises(ProviderError) as cut:
        read_all(body)
    assert cut.value.code == "transport"


@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize(
    "key", ["a b/ü%&+=?.bin", "日本/🎉", "x//y", "~t'(x)*!;:@$,", "plus+and%2Fescaped", "trailing.", "#hash?query=1&b"]
)
def test_odd_keys_are_written_and_read_as_they_are(oss: Place, key: str, signature: str) -> None:
    odd = Place(oss.server, f"{oss.key}/{key}", signature=signature)
    to = odd.destination()

    to.complete_upload(*upload_all(to, (FIRST, LAST)))

    validator = odd.source().stat().validator
    assert odd.read() == FIRST + LAST
    assert read_all(odd.source().read_range(ByteRange(PART, PART + 7), validator=validator)) == LAST
    assert to.list_uploads() == []


@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize("style", ["virtual", "cname"])
def test_names_are_addressed_and_signed_as_the_service_expects(
    oss: Place, signature: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask: Callable[..., Any] = socket.getaddrinfo

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        return ask("127.0.0.1" if host.endswith(DOMAIN) else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    oss.server.cnames[f"files.{DOMAIN}"] = BUCKET
    named = {
        "virtual": {"endpoint": f"http://{DOMAIN}:{oss.server.port}"},
        "cname": {"endpoint": f"http://files.{DOMAIN}:{oss.server.port}", "cname": "yes"},
    }
    place = oss.by(signature=signature, **named[style])
    to = place.destination()

    to.complete_upload(*upload_all(to, THREE))

    host = {"virtual": f"{BUCKET}.{DOMAIN}", "cname": f"files.{DOMAIN}"}[style]
    assert to.place[0] == f"http://{host}:{oss.server.port}/{oss.key}"
    assert oss.read() == b"".join(THREE)
    assert read_all(place.source().read_range(ByteRange(PART * 2, PART * 2 + 7), validator=ANY)) == LAST


# who may


@pytest.mark.parametrize(
    "values", [{"secret_key": "wrong"}, {"access_key": "nobody"}, {"secret_key": "x", "signature": "v1"}]
)
def test_a_wrong_key_is_forbidden_everywhere(oss: Place, values: dict[str, str]) -> None:
    oss.write(LAST)
    stranger = oss.by(**values)
    to = stranger.destination()

    calls: list[Callable[[], object]] = [
        stranger.source().stat,
        lambda: stranger.source().read_range(ByteRange(0, 1), validator=ANY),
        lambda: to.create_upload(plan_for(THREE)),
        lambda: put(to, UploadId("single"), 1, LAST),
        lambda: put(to, UploadId("none"), 1, LAST),
    ]
    for call in calls:
        with pytest.raises(Forbidden) as refused:
            call()
        assert oss.server.access_key not in str(refused.value)
    assert to.existing() is None


def test_what_is_missing_is_not_found(oss: Place) -> None:
    nowhere = OssDestination(oss.source().account, "no-such-bucket", "k", Options())

    calls: list[Callable[[], object]] = [
        oss.source().stat,
        lambda: oss.source().read_range(ByteRange(0, 1), validator=ANY),
        lambda: nowhere.create_upload(plan_for(THREE)),
        nowhere.as_source().stat,
        lambda: put(nowhere, UploadId("single"), 1, LAST),
        nowhere.list_uploads,
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert nowhere.existing() is None


@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_lent_keys_work_until_they_end(own_oss: OssServer, signature: str) -> None:
    lent = Credential("STS.key", "lent", token="a token/with+signs=", expires=time.time() + 60)
    own_oss.credentials[lent.access_key] = lent
    keys = {"access_key": lent.access_key, "secret_key": lent.secret_key, "security_token": lent.token}
    place = Place(own_oss, "k", signature=signature, **keys)
    to = place.destination()
    upload, receipts = upload_all(to, THREE)

    own_oss.credentials[lent.access_key] = replace(lent, expires=time.time() - 1)

    calls: list[Callable[[], object]] = [
        place.source().stat,
        lambda: place.source().read_range(ByteRange(0, 1), validator=ANY),
        lambda: to.complete_upload(upload, receipts),
        lambda: to.list_parts(upload),
        lambda: put(to, upload, 1, FIRST),
    ]
    for call in calls:
        with pytest.raises(CredentialExpired):
            call()
    own_oss.credentials[lent.access_key] = lent
    to.complete_upload(upload, receipts)
    assert place.read() == b"".join(THREE)


# the clock


@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_clock_that_is_20_minutes_off_does_no_harm(own_oss: OssServer, signature: str, minutes: int) -> None:
    own_oss.skew_seconds = minutes * 60
    place = Place(own_oss, "k", signature=signature)
    to = place.destination()

    to.complete_upload(*upload_all(to, THREE))

    assert own_oss.store.get(BUCKET, "k").data == b"".join(THREE)


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_worker_whose_first_request_carries_data_learns_the_time_too(own_oss: OssServer, minutes: int) -> None:
    writing, reading = Place(own_oss, "k", ipv6="no"), Place(own_oss, "k", ca_file="")
    own_oss.skew_seconds = minutes * 60

    with pytest.raises(ServerFault) as refused:
        put(writing.destination(), UploadId("single"), 1, LAST)
    put(writing.destination(), UploadId("single"), 1, LAST)

    assert refused.value.retryable
    assert read_all(reading.source().read_range(ByteRange(0, 7), validator=ANY)) == LAST


def test_a_refusal_that_no_clock_explains_is_an_expired_credential(oss_proxied: Place, oss_proxy: LoggingProxy) -> None:
    skewed = error_xml("RequestTimeTooSkewed")
    oss_proxy.answer("PUT", oss_proxied.key, status=403, body=skewed, headers=(("Date", _now()),), times=9)

    with pytest.raises(CredentialExpired):
        put(oss_proxied.destination(), UploadId("single"), 1, LAST)


def _now() -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())


# the process


@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_requests_are_those_of_the_applications_session(oss: Place, oss_server: OssServer, signature: str) -> None:
    told: list[dict[str, str]] = []

    class Listening(HTTPAdapter):
        def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
            told.append({name.lower(): str(value) for name, value in request.headers.items()})
            return super().send(request, *args, **options)

    def session() -> requests.Session:
        made = requests.Session()
        made.headers.update({"X-Marker": "of-the-application", "x-oss-meta-marker": "signed too"})
        made.mount("http://", Listening())
        return made

    location = parse(f"oss://{BUCKET}/{oss.key}", "destination")
    services = replace(SERVICES, session_factory=session)
    to = open_destination(location, oss.by(signature=signature).profile, Options("t1"), services)
    assert isinstance(to, OssDestination)

    to.complete_upload(*upload_all(to, THREE))

    assert oss.read() == b"".join(THREE)
    assert len(told) == 1 + len(THREE) + 2
    assert {each["x-marker"] for each in told} == {"of-the-application"}
    to.account.transport.close()


def test_a_child_process_builds_its_own_account(oss: Place) -> None:
    oss.write(LAST)
    before = oss.source().account
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # the child
        source = oss.source()
        os.write(writer, b"%d %d" % (source.account is not before, source.stat().size_bytes or 0))
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)

    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"1 7"
    assert oss.source().account is before


@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_no_log_and_no_error_tells_a_secret(
    own_oss: OssServer, signature: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    canaries = {"access_key": "AKCANARY", "secret_key": "SKCANARY", "security_token": "TOKENCANARY"}
    own_oss.credentials["AKCANARY"] = Credential("AKCANARY", "SKCANARY", token="TOKENCANARY")
    place = Place(own_oss, "k", signature=signature, **canaries)
    to = place.destination()
    to.complete_upload(*upload_all(to, THREE))
    read_all(place.source().read_range(ByteRange(0, PART), validator=ANY))
    own_oss.credentials["AKCANARY"] = Credential("AKCANARY", "OTHER", token="TOKENCANARY")

    told = []
    for call in (place.source().stat, lambda: put(to, UploadId("single"), 1, LAST), to.list_uploads):
        with pytest.raises(ProviderError) as refused:
            call()
        told += traceback.format_exception(refused.value)

    shown = " ".join([*told, caplog.text, repr(to), repr(to.account), repr(place.source())])
    assert "contract" in shown
    assert "CANARY" not in shown
