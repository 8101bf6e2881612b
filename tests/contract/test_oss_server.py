"""The OSS stand-in keeps its promises to both of Alibaba's own SDKs, in both signatures and each style of address."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from providers.oss_sdk import exceptions, models, oss2
from tests.servers.oss_server import DOMAIN, Credential, OssServer
from tests.servers.oss_v2_install import BATTERY, oss_v2_python

# oss2 2.19 signs version 4 with a call that Python 3.12 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

PART = 100 << 10
DATA = bytes(range(256)) * 1000
BUCKET = "contract"


@pytest.fixture
def own() -> Iterator[OssServer]:
    """One whose clock and credentials a test may change."""
    with OssServer() as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(autouse=True)
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name below the stand-in's domain is this machine."""
    ask: Callable[..., Any] = socket.getaddrinfo

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        return ask("127.0.0.1" if host.endswith(DOMAIN) else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def styled(server: OssServer, signature: str, style: str) -> Any:
    """The first SDK, signing and addressing in one of the ways there are."""
    if style == "path":
        return server.bucket(BUCKET, signature=signature)
    if style == "virtual":
        return server.bucket(BUCKET, signature=signature, endpoint=f"http://{DOMAIN}:{server.port}")
    server.cnames[f"files.{DOMAIN}"] = BUCKET
    return server.bucket(BUCKET, signature=signature, endpoint=f"http://files.{DOMAIN}:{server.port}", is_cname=True)


WAYS = [("v1", "path"), ("v1", "virtual"), ("v1", "cname"), ("v4", "path"), ("v4", "virtual"), ("v4", "cname")]


@pytest.fixture(params=WAYS, ids="-".join)
def bucket(request: pytest.FixtureRequest, oss_server: OssServer) -> Any:
    return styled(oss_server, *request.param)


def code_of(call: Callable[[], object]) -> str:
    try:
        call()
    except exceptions.OssError as exc:
        return str(exc.code)
    return ""


# the first SDK


def test_the_first_sdk_writes_and_reads_objects(bucket: Any) -> None:
    key = f"{uuid.uuid4().hex}/a b/ü%&+=?.bin"
    put = bucket.put_object(key, DATA, headers={"x-oss-meta-haulage-id": "t1"})
    head = bucket.head_object(key)

    assert put.etag == head.etag == hashlib.md5(DATA).hexdigest().upper()  # noqa: S324  # OSS's own way
    assert (head.content_length, head.object_type, head.headers["x-oss-meta-haulage-id"]) == (len(DATA), "Normal", "t1")
    assert bucket.get_object(key).read() == DATA, "the SDK has compared the checksum too"
    assert bucket.get_object(key, headers={"If-Match": head.headers["ETag"]}).status == 200
    assert code_of(lambda: bucket.get_object(key, headers={"If-Match": '"other"'})) == "PreconditionFailed"
    assert code_of(lambda: bucket.put_object(key, b"x", {"x-oss-forbid-overwrite": "true"})) == "FileAlreadyExists"
    assert code_of(lambda: bucket.put_object(key, b"x", {"Content-MD5": "AAAA"})) == "InvalidDigest"
    bucket.delete_object(key)
    assert code_of(lambda: bucket.get_object(key)) == "NoSuchKey"
    assert code_of(lambda: bucket.head_object(key)) == "NoSuchKey", "a HEAD tells it in a header"


@pytest.mark.parametrize(
    ("asked", "usual", "standard"),
    [
        ((5, 9), (206, "bytes 5-9/256000"), (206, "bytes 5-9/256000")),
        ((None, 10), (206, "bytes 255990-255999/256000"), (206, "bytes 255990-255999/256000")),
        ((5, 256_000), (200, None), (206, "bytes 5-255999/256000")),
        ((256_000, 256_001), (200, None), "InvalidRange"),
    ],
)
def test_a_bad_range_is_the_whole_object_unless_asked_otherwise(
    oss_server: OssServer, asked: tuple[int, int], usual: object, standard: object
) -> None:
    bucket, key = oss_server.bucket(BUCKET, enable_crc=False), uuid.uuid4().hex
    bucket.put_object(key, DATA)

    def answer(headers: dict[str, str]) -> object:
        try:
            got = bucket.get_object(key, byte_range=asked, headers=headers)
        except exceptions.OssError as exc:
            return exc.code
        got.read()
        return got.status, got.headers.get("Content-Range")

    assert answer({}) == usual
    assert answer({"x-oss-range-behavior": "standard"}) == standard


def test_the_first_sdk_joins_parts_sent_and_copied(bucket: Any) -> None:
    key = uuid.uuid4().hex
    etag = bucket.put_object(f"{key}-source", DATA).etag
    upload = bucket.init_multipart_upload(key).upload_id
    first, last = bucket.upload_part(key, upload, 1, DATA[:PART]), bucket.upload_part(key, upload, 3, b"the end")
    span = (0, PART - 1)

    def copy(headers: dict[str, str]) -> Any:
        return bucket.upload_part_copy(BUCKET, f"{key}-source", span, key, upload, 2, headers=headers)

    copy({"x-oss-copy-source-if-match": f'"{etag}"'})
    listed = [(each.part_number, each.size, each.etag) for each in oss2.PartIterator(bucket, key, upload, max_parts=2)]
    parts = [models.PartInfo(n, each.etag, PART, part_crc=each.crc) for n, each in ((1, first), (2, first), (3, last))]
    parts[2].size = 7

    done = bucket.complete_multipart_upload(key, upload, parts)

    assert listed == [(1, PART, first.etag), (2, PART, first.etag), (3, 7, last.etag)]
    assert done.crc, "the SDK has compared it with the joined checksums of the parts"
    assert done.etag.endswith("-3")
    assert bucket.get_object(key).read() == DATA[:PART] * 2 + b"the end"
    assert code_of(lambda: copy({"x-oss-copy-source-if-match": '"other"'})) == "NoSuchUpload"


def test_uploads_are_listed_in_pages(oss_server: OssServer) -> None:
    bucket, prefix = oss_server.bucket(BUCKET), uuid.uuid4().hex
    begun = {bucket.init_multipart_upload(f"{prefix}/{name}").upload_id for name in ("a", "a", "b", "ü&")}

    found = list(oss2.MultipartUploadIterator(bucket, prefix=prefix, max_uploads=1))

    assert {each.upload_id for each in found} == begun
    assert [each.key for each in found] == [f"{prefix}/{name}" for name in ("a", "a", "b", "ü&")]
    assert all(abs(each.initiation_date - time.time()) < 60 for each in found)


def raw_complete(bucket: Any, key: str, upload: str, *parts: tuple[int, str]) -> tuple[int, str]:
    """By a URL: the SDK would sort the list."""
    rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
    url = bucket.sign_url("POST", key, 60, params={"uploadId": upload})
    reply = requests.post(url, data=f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>")
    return reply.status_code, (reply.text.partition("<Code>")[2].partition("</Code>")[0])


def test_a_list_that_is_wrong_completes_nothing(oss_server: OssServer) -> None:
    bucket, key = oss_server.bucket(BUCKET), uuid.uuid4().hex
    upload = bucket.init_multipart_upload(key).upload_id
    one, two = (bucket.upload_part(key, upload, n, DATA[:PART] + bytes([n])).etag for n in (1, 2))
    small = bucket.upload_part(key, upload, 3, b"small").etag

    assert raw_complete(bucket, key, upload, (2, two), (1, one)) == (400, "InvalidPartOrder")
    assert raw_complete(bucket, key, upload, (1, two)) == (400, "InvalidPart")
    assert raw_complete(bucket, key, upload, (1, one), (9, two)) == (400, "InvalidPart")
    assert raw_complete(bucket, key, upload, (1, one), (3, small), (4, small)) == (400, "InvalidPart")
    assert raw_complete(bucket, key, upload) == (400, "InvalidPart")
    tiny = bucket.upload_part(key, upload, 4, b"last").etag
    assert raw_complete(bucket, key, upload, (1, one), (3, small), (4, tiny)) == (400, "EntityTooSmall")
    assert code_of(lambda: bucket.upload_part(key, upload, 10_001, b"x")) == "InvalidArgument"
    assert raw_complete(bucket, key, upload, (1, one), (3, small)) == (200, "")
    assert raw_complete(bucket, key, upload, (1, one)) == (404, "NoSuchUpload")


# the second SDK


@pytest.mark.timeout(240)  # the first run on a machine installs it
@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_second_sdk_is_answered_alike(own: OssServer, signature: str, style: str) -> None:
    own.credentials["STS.key"] = Credential("STS.key", "lent", token="a token/with+signs=")
    lent = {"access_key": "STS.key", "secret_key": "lent", "token": "a token/with+signs="}
    asked = {
        **own.profile,
        "endpoint": own.endpoint if style == "path" else f"http://{DOMAIN}:{own.port}",
        "token": "",
        **(lent if signature == "v4" else {}),  # in version 1 it sends the token in a header of another name
        "bucket": BUCKET,
        "prefix": uuid.uuid4().hex,
        "signature": signature,
        "style": style,
    }
    command: list[str] = [str(oss_v2_python()), str(BATTERY), json.dumps(asked)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"LANG": "C.UTF-8"})

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "put": [200, True, True],
        "head": [256_000, "Normal", "t1"],
        "read": True,
        "range": [206, "bytes 5-9/256000", True],
        "clipped": 255_995,
        "overlong": [200],
        "past": "InvalidRange",
        "if_match": [200, "PreconditionFailed"],
        "kept": "FileAlreadyExists",
        "wrong_md5": "InvalidDigest",
        "missing": "NoSuchKey",
        "missing_head": "NoSuchKey",
        "wrong_secret": "SignatureDoesNotMatch",
        "listed": True,
        "listed_crcs": [True] * 3,
        "uploads": True,
        "copy_of_changed": "PreconditionFailed",
        "order": "InvalidPartOrder",
        "wrong_etag": "InvalidPart",
        "too_small": "InvalidPartOrder",
        "done": [200, True, True],
        "joined": True,
        "again": "NoSuchUpload",
        "aborted": "NoSuchUpload",
        "by_url": True,
        "by_url_put": 200,
        "url_of_another": 403,
        "url_used_to_write": 403,
    }


# who may


@pytest.mark.parametrize("signature", ["v1", "v4"])
def test_a_signed_url_is_good_for_its_time_and_nothing_else(own: OssServer, signature: str) -> None:
    bucket = own.bucket(BUCKET, signature=signature)
    bucket.put_object("k", DATA)
    url = bucket.sign_url("GET", "k", 60, slash_safe=True)
    put = bucket.sign_url("PUT", "new", 60, headers={"Content-Type": "text/x-one"})

    def typed(kind: str) -> int:
        return requests.put(put, data=b"x", headers={"Content-Type": kind}).status_code

    assert requests.get(url).content == DATA
    assert requests.get(url.replace("/k?", "/K?")).status_code == 403
    assert requests.put(url, data=b"x").status_code == 403
    assert (typed("text/x-other"), typed("text/x-one")) == (403, 200)
    own.skew_seconds = 61
    late = requests.get(url)
    assert (late.status_code, "Request has expired" in late.text) == (403, True)


def test_a_header_that_was_signed_cannot_be_changed(oss_server: OssServer) -> None:
    bucket = oss_server.bucket(BUCKET, signature="v4")
    bucket.put_object("signed-header", DATA)
    asked = {"range": "bytes=0-9"}

    url = bucket.sign_url(
        "GET", "signed-header", 60, headers=dict(asked), additional_headers={"range"}, slash_safe=True
    )

    assert requests.get(url, headers=asked).content == DATA[:10]
    assert requests.get(url, headers={"range": "bytes=0-10"}).status_code == 403
    assert requests.get(url).status_code == 403


@pytest.mark.parametrize("signature", ["v1", "v4"])
def test_lent_keys_need_their_token_and_end(own: OssServer, signature: str) -> None:
    own.credentials["STS.key"] = Credential("STS.key", "lent", token="token", expires=time.time() + 60)

    def put(token: str) -> str:
        auth = oss2.StsAuth("STS.key", "lent", token, signature)
        return code_of(lambda: own.bucket(BUCKET, auth=auth).put_object("k", b"x"))

    assert put("token") == ""
    assert put("") == "InvalidAccessKeyId"
    assert put("other") == "InvalidSecurityToken"
    own.skew_seconds = 61
    assert put("token") == "SecurityTokenExpired"


@pytest.mark.parametrize("signature", ["v1", "v4"])
@pytest.mark.parametrize("skew_seconds", [-1200, 1200])
def test_a_clock_that_is_off_is_told(own: OssServer, signature: str, skew_seconds: int) -> None:
    own.skew_seconds = skew_seconds

    with pytest.raises(exceptions.OssError) as refused:
        own.bucket(BUCKET, signature=signature).put_object("k", b"x")

    assert (refused.value.status, refused.value.code) == (403, "RequestTimeTooSkewed")
    assert refused.value.headers["Date"]


def test_nobody_comes_in_without_a_signature(oss_server: OssServer) -> None:
    assert requests.get(f"{oss_server.endpoint}/{BUCKET}/k").status_code == 403
    stranger = oss_server.bucket(BUCKET, auth=oss2.AuthV4("AK", "SK"))
    assert code_of(lambda: stranger.get_object("k")) == "InvalidAccessKeyId"
    elsewhere = oss_server.bucket(BUCKET, signature="v4", region="cn-other")
    assert code_of(lambda: elsewhere.get_object("k")) == "InvalidArgument"
