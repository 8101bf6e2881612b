"""What an S3 server may do wrong, provoked by a proxy in front of a real one."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from providers.base import (
    UploadId,
)
from providers.errors import (
    DestinationExists,
)
from tests.contract.s3_place import (
    FIRST,
    LAST,
    MIB,
    PART,
    THREE,
    Place,
    error_xml,
    part,
    plan_for,
    put,
    upload_all,
)
from tests.servers.logging_proxy import LoggingProxy

pytest_plugins = ["tests.contract.s3_fixtures"]


# what a server may do wrong


@pytest.mark.parametrize(
    ("code", "expected"), [("InternalError", "server_fault"), ("AccessDenied", "forbidden"), ("SlowDown", "throttled")]
)
def test_an_error_inside_a_200_is_an_error(s3_proxied: Place, s3_proxy: LoggingProxy, code: str, expected: str) -> None:
    to = s3_proxied.destination()
    upload, receipts = upload_all(to, (FIRST, LAST))
    s3_proxy.answer("POST", "uploadId=", status=200, body=b'<?xml version="1.0"?>\n   \n ' + error_xml(code))

    with pytest.raises(Exception, match="complete") as failed:
        to.complete_upload(upload, receipts)

    assert failed.value.code == expected  # type: ignore[attr-defined]
    assert not s3_proxied.is_there
    assert to.complete_upload(upload, receipts).size_bytes == PART + len(LAST)


def test_an_error_inside_a_200_to_a_copied_part_is_an_error(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    origin = Place(s3_proxied.server, f"origin/{uuid.uuid4().hex}", endpoint=s3_proxy.endpoint)
    origin.write(FIRST + LAST)
    to = s3_proxied.destination()
    upload = to.create_upload(plan_for((FIRST, LAST)))
    s3_proxy.answer("PUT", "partNumber=1", status=200, body=error_xml("InternalError"))

    with pytest.raises(Exception, match="copy part 1") as failed:
        to.copy_part(upload, part(1, FIRST), origin.source(), validator=origin.source().stat().validator)

    assert failed.value.code == "server_fault"  # type: ignore[attr-defined]


def test_a_store_without_full_object_checksums_is_used_without(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    s3_proxy.answer("POST", "uploads", status=400, body=error_xml("InvalidRequest"))
    to = s3_proxied.destination()

    upload, receipts = upload_all(to, (FIRST, LAST))
    stat = to.complete_upload(upload, [replace(each, crc64nvme=None) for each in receipts])
    to.create_upload(plan_for(THREE))

    assert stat.size_bytes == PART + len(LAST)
    assert stat.checksum is None
    assert len(s3_proxy.requests("POST", "uploads")) == 3, "it is tried once for each endpoint and credential"


def test_a_store_that_refuses_the_checksum_at_the_end_is_asked_without(
    s3_proxied: Place, s3_proxy: LoggingProxy
) -> None:
    to = s3_proxied.destination()
    upload, receipts = upload_all(to, (FIRST, LAST))
    s3_proxy.answer("POST", "uploadId=", status=501, body=error_xml("NotImplemented"))

    assert to.complete_upload(upload, receipts).size_bytes == PART + len(LAST)


def test_a_store_without_conditions_is_asked_first_what_is_there(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    s3_proxy.answer("PUT", s3_proxied.key, status=501, body=error_xml("NotImplemented"))
    to = s3_proxied.destination(on_exists="fail")
    upload = to.create_upload(plan_for((LAST,)))
    with pytest.raises(Exception, match="conditions") as first:
        put(to, upload, 1, LAST)
    s3_proxied.write(b"first")

    with pytest.raises(DestinationExists):
        put(to, upload, 1, LAST)

    assert first.value.retryable  # type: ignore[attr-defined]
    assert s3_proxied.read() == b"first"


def test_throttling_says_when_to_come_back(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    busy: dict[str, Any] = {
        "status": 503,
        "body": error_xml("SlowDown", "Please reduce your request rate."),
        "headers": (("Retry-After", "7"),),
    }
    s3_proxy.answer("PUT", "partNumber", **busy)
    s3_proxy.answer("POST", "uploads", **busy)
    to = s3_proxied.destination()

    with pytest.raises(Exception, match="SlowDown") as small:
        to.create_upload(plan_for(THREE))
    with pytest.raises(Exception, match="SlowDown") as data:
        put(to, to.create_upload(plan_for(THREE)), 1, FIRST)

    for failed in (small.value, data.value):
        assert (failed.code, failed.retry_after_seconds) == ("throttled", 7)  # type: ignore[attr-defined]


def test_a_head_is_explained_by_a_get(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    s3_proxy.answer("HEAD", s3_proxied.key, status=400)
    s3_proxy.answer(
        "GET", s3_proxied.key, status=400, body=error_xml("ExpiredToken", "The provided token has expired.")
    )

    with pytest.raises(Exception, match="ExpiredToken") as failed:
        s3_proxied.source().stat()

    assert failed.value.code == "credential_expired"  # type: ignore[attr-defined]


def test_a_credential_that_may_only_write_is_enough(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    to = s3_proxied.destination()
    upload, receipts = upload_all(to, (FIRST, LAST))
    s3_proxy.answer("HEAD", s3_proxied.key, status=403, times=9)
    s3_proxy.answer("GET", s3_proxied.key, status=403, body=error_xml("AccessDenied"), times=9)

    stat = to.complete_upload(upload, receipts)

    assert to.existing() is None
    assert stat.size_bytes == PART + len(LAST)
    assert stat.etag == s3_proxied.head()["ETag"]


def test_a_reply_without_an_etag_is_no_receipt(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    s3_proxy.answer("PUT", s3_proxied.key, status=200)

    with pytest.raises(Exception, match="no ETag") as failed:
        put(s3_proxied.destination(), UploadId("single"), 1, LAST)

    assert failed.value.code == "response_parse"  # type: ignore[attr-defined]


def test_a_refused_part_is_not_taken_for_stored(s3_proxied: Place, s3_proxy: LoggingProxy) -> None:
    to = s3_proxied.destination()
    upload = to.create_upload(plan_for(THREE))
    s3_proxy.cut_after(MIB, "PUT", "partNumber=1")

    with pytest.raises(Exception, match=r"Error|Disconnected|Pipe") as cut:
        put(to, upload, 1, FIRST)

    assert cut.value.code == "transport"  # type: ignore[attr-defined]
    assert to.list_parts(upload) == []
