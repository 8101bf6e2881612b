"""Reading from a real S3 server, copying inside it, and how it is addressed; objects are prepared by boto3."""

from __future__ import annotations

import gzip
import os
import socket
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from providers.base import (
    ByteRange,
    BytesBody,
    Options,
    Profile,
    UploadId,
    Validator,
)
from providers.errors import (
    Forbidden,
    InvalidRange,
    NotFound,
    SourceChanged,
)
from providers.s3 import S3Destination
from providers.s3_account import account_for
from providers.s3_source import S3Source
from tests.contract.s3_place import (
    BUCKET,
    FIRST,
    LAST,
    MIB,
    PART,
    SECOND,
    SERVICES,
    THREE,
    Place,
    drain,
    part,
    plan_for,
    put,
    upload_all,
)
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.s3_server import DOMAIN, S3Server

pytest_plugins = ["tests.contract.s3_fixtures"]


# reading


def test_ranges_are_read_as_they_were_written(s3: Place) -> None:
    s3.write(bytes(range(256)) * 1024)
    source = s3.source()
    stat = source.stat()

    middle = source.read_range(ByteRange(1000, 200_000), validator=stat.validator)
    end = source.read_range(ByteRange(262_143, 262_144), validator=stat.validator)

    assert stat.size_bytes == 262_144
    assert (stat.validator.kind, stat.validator.value) == ("etag", stat.etag)
    assert stat.name == s3.key.rpartition("/")[2]
    assert drain(middle) == (bytes(range(256)) * 1024)[1000:200_000]
    assert drain(end) == b"\xff"


def test_a_content_encoding_is_a_label_of_the_stored_bytes(s3: Place) -> None:
    stored = gzip.compress(b"a log of yesterday" * 1000)
    s3.server.client().put_object(Bucket=BUCKET, Key=s3.key, Body=stored, ContentEncoding="gzip")
    source = s3.source()

    body = source.read_range(ByteRange(1, len(stored)), validator=source.stat().validator)

    assert drain(body) == stored[1:]


def test_an_object_overwritten_since_is_a_changed_source(s3: Place) -> None:
    s3.write(b"before")
    validator = s3.source().stat().validator
    s3.write(b"after!")

    with pytest.raises(SourceChanged):
        s3.source().read_range(ByteRange(0, 3), validator=validator)


def test_a_range_past_the_end_is_invalid(s3: Place) -> None:
    s3.write(b"short")

    with pytest.raises(InvalidRange):
        s3.source().read_range(ByteRange(5, 6), validator=Validator("none"))


def test_a_bucket_with_versions_pins_the_version(s3_server: S3Server) -> None:
    bucket = s3_server.make_bucket(f"v{uuid.uuid4().hex}")
    client = s3_server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=bucket, Key="k", Body=b"before")
    account = account_for(Profile("test", s3_server.profile), Options(), SERVICES)
    source = S3Source(account, bucket, "k")
    stat = source.stat()
    client.put_object(Bucket=bucket, Key="k", Body=b"after!")

    assert stat.validator.kind == "version"
    assert drain(source.read_range(ByteRange(0, 6), validator=stat.validator)) == b"before"
    assert source.stat().validator != stat.validator


def test_what_was_written_can_be_read_back_and_removed(s3: Place) -> None:
    to = s3.destination()
    stat = to.complete_upload(*upload_all(to, (LAST,)))

    assert drain(to.as_source().read_range(ByteRange(0, 7), validator=stat.validator)) == LAST
    to.remove()
    to.remove()
    assert not s3.is_there


def test_a_cut_range_is_reported_while_it_is_read(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    s3_proxied.write(FIRST)
    source = s3_proxied.source()
    validator = source.stat().validator
    s3_proxy.cut_after(MIB, "GET", s3_proxied.key)

    body = source.read_range(ByteRange(0, PART), validator=validator)

    with pytest.raises(Exception, match=r"early|Error") as cut:
        drain(body)
    assert cut.value.code == "transport"  # type: ignore[attr-defined]


# server-side copy


def test_parts_are_copied_by_the_server_itself(s3_server: S3Server, s3: Place, s3_proxy: LoggingProxy) -> None:
    origin = Place(s3_server, f"origin/{uuid.uuid4().hex} ü%&+=?.bin", endpoint=s3_proxy.endpoint)
    origin.write(FIRST + SECOND + LAST)
    source = origin.source()
    to = Place(s3_server, s3.key, endpoint=s3_proxy.endpoint).destination()
    validator = source.stat().validator
    upload = to.create_upload(plan_for(THREE))
    before = len(s3_proxy.log)

    receipts = [to.copy_part(upload, part(n, body), source, validator=validator) for n, body in enumerate(THREE, 1)]
    to.complete_upload(upload, receipts)

    assert to.can_copy_from(source)
    assert s3.read() == FIRST + SECOND + LAST
    assert sum(each.sent_bytes + each.received_bytes for each in s3_proxy.log[before:]) < 10_000


@pytest.mark.parametrize("body", [b"", LAST], ids=["0 B", "7 B"])
def test_a_small_object_is_copied_in_one_go(s3_server: S3Server, s3: Place, body: bytes) -> None:
    origin = Place(s3_server, f"origin/{uuid.uuid4().hex}")
    origin.write(body)
    to = s3.destination(content_type="text/x-copied")
    upload = to.create_upload(plan_for((body,)))

    receipt = to.copy_part(upload, part(1, body), origin.source(), validator=origin.source().stat().validator)
    stat = to.complete_upload(upload, [receipt])

    assert s3.read() == body
    assert stat.metadata == {"haulage-id": "t1"}
    assert s3.head()["ContentType"] == "text/x-copied"


@pytest.mark.parametrize("bodies", [(LAST,), (FIRST, LAST)], ids=["whole", "part"])
def test_a_copy_of_a_changed_source_is_refused(s3_server: S3Server, s3: Place, bodies: tuple[bytes, ...]) -> None:
    origin = Place(s3_server, f"origin/{uuid.uuid4().hex}")
    origin.write(b"".join(bodies))
    validator = origin.source().stat().validator
    origin.write(b"".join(bodies).upper())
    to = s3.destination()
    upload = to.create_upload(plan_for(bodies))

    with pytest.raises(SourceChanged):
        to.copy_part(upload, part(1, bodies[0]), origin.source(), validator=validator)


def test_only_the_same_endpoint_and_credential_can_copy(s3: Place) -> None:
    to = s3.destination()

    assert to.can_copy_from(Place(s3.server, "other").source())
    assert not to.can_copy_from(Place(s3.server, "other", endpoint="http://127.0.0.1:1").source())
    assert not to.can_copy_from(Place(s3.server, "other", secret_key="another").source())


# keys and addresses


@pytest.mark.parametrize(
    "key",
    ["a b/ü%&+=?.bin", "日本/🎉", "x//y", "~t'(x)*!;:@$,", "plus+and%2Fescaped", "trailing.", "#hash?query=1&b"],
)
def test_odd_keys_are_written_and_read_as_they_are(s3_server: S3Server, key: str) -> None:
    s3 = Place(s3_server, f"{uuid.uuid4().hex}/{key}")
    to = s3.destination()

    to.complete_upload(*upload_all(to, (LAST,)))
    big = Place(s3_server, f"{s3.key}-big")
    big.destination().complete_upload(*upload_all(big.destination(), (FIRST, LAST)))

    stat = s3.source().stat()
    assert s3.read() == LAST
    assert drain(s3.source().read_range(ByteRange(4, 7), validator=stat.validator)) == b"end"
    assert big.read() == FIRST + LAST


@pytest.mark.parametrize("addressing", ["path", "auto"])
def test_an_address_without_a_name_is_used_in_path_style(
    s3_proxied: Place, s3_proxy: LoggingProxy, addressing: str
) -> None:
    s3 = Place(s3_proxied.server, s3_proxied.key, endpoint=s3_proxy.endpoint, addressing=addressing)

    s3.destination().put_part(UploadId("single"), part(1, LAST), BytesBody(LAST))

    assert [each.path for each in s3_proxy.requests("PUT")] == [f"/{BUCKET}/{s3.key}"]


def test_virtual_host_style_is_signed_as_the_server_expects(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ask: Callable[..., Any] = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        return ask("127.0.0.1" if host.endswith(DOMAIN) else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    endpoint = f"http://{DOMAIN}:{s3.server.port}"
    virtual = Place(s3.server, s3.key, endpoint=endpoint, addressing="virtual")
    to = virtual.destination()

    to.complete_upload(*upload_all(to, (FIRST, LAST)))

    assert to.place[0] == f"http://{BUCKET}.{DOMAIN}:{s3.server.port}/{s3.key}"
    assert s3.read() == FIRST + LAST
    source = virtual.source()
    assert drain(source.read_range(ByteRange(PART, PART + 3), validator=source.stat().validator)) == b"the"


# who may, and where


def test_a_wrong_secret_is_forbidden_everywhere(s3: Place) -> None:
    s3.write(LAST)
    stranger = Place(s3.server, s3.key, secret_key="wrong")
    to = stranger.destination()

    with pytest.raises(Forbidden):
        stranger.source().stat()
    with pytest.raises(Forbidden):
        stranger.source().read_range(ByteRange(0, 1), validator=Validator("none"))
    with pytest.raises(Forbidden):
        to.create_upload(plan_for(THREE))
    with pytest.raises(Forbidden):
        put(to, UploadId("single"), 1, LAST)
    with pytest.raises(Forbidden):
        put(to, UploadId("no-such-upload"), 1, LAST)


def test_what_is_missing_is_not_found(s3_server: S3Server, s3: Place) -> None:
    account = s3.source().account
    nowhere = S3Destination(account, "no-such-bucket", "k", Options())

    with pytest.raises(NotFound):
        s3.source().stat()
    with pytest.raises(NotFound):
        s3.source().read_range(ByteRange(0, 1), validator=Validator("none"))
    with pytest.raises(NotFound):
        nowhere.create_upload(plan_for(THREE))
    with pytest.raises(NotFound):
        nowhere.as_source().stat()
    with pytest.raises(NotFound):
        put(nowhere, UploadId("single"), 1, LAST)
    assert nowhere.existing() is None


def test_a_child_process_builds_its_own_client(s3: Place) -> None:
    s3.write(LAST)
    before = s3.source().account
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # the child
        source = s3.source()
        fresh = source.account is not before
        os.write(writer, b"%d %d" % (fresh, source.stat().size_bytes or 0))
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)

    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"1 7"
    assert s3.source().account is before


def test_equal_profiles_share_one_client(s3: Place) -> None:
    assert s3.source().account is s3.destination().account
    assert Place(s3.server, "k", region="eu-west-1").source().account is not s3.source().account
