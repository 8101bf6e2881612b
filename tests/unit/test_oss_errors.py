"""Every error that oss2 or OSS can give has one meaning of ours, and none of them tells a secret."""

from __future__ import annotations

import base64
import inspect
import logging
import pickle
import traceback
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import ParseError

import pytest

from providers.errors import DestinationExists, ProviderError, SourceChanged
from providers.oss_errors import BY_CODE, code_of, oss_error, oss_errors, reply_error
from providers.oss_sdk import exceptions as sdk
from providers.reply import Reply

CANARY = "CANARYCANARY"
SIGNATURE = "0123456789abcdef" * 4
SIGNED = f"http://b.oss.test/k?x-oss-credential={CANARY}%2F20261121&x-oss-signature={SIGNATURE}"

OTHER = {
    "BucketReplicationAlreadyExist", "ChannelStillLive", "Conflict", "BucketNotEmpty", "InvalidArgument",
    "InvalidEncryptionAlgorithmError", "InvalidEncryptionRequest", "InvalidObjectName", "InvalidRequest",
    "InvalidWORMConfiguration", "LiveChannelDisabled", "MalformedXml", "NotImplemented", "NotModified",
    "ObjectNotAppendable", "OperationNotSupported", "PositionNotEqualToLength", "RestoreAlreadyInProgress",
    "SelectOperationFailed", "ServerError",
}  # fmt: skip
MEANING = {
    "ClientError": "invalid_value",
    "RequestError": "transport",
    "InconsistentError": "checksum_mismatch",
    "OssError": "http_client_build_failed",
    "OpenApiFormatError": "http_client_build_failed",
    "OpenApiServerError": "http_client_build_failed",
    "SelectOperationClientError": "http_client_build_failed",
    "AccessDenied": "forbidden",
    "SignatureDoesNotMatch": "forbidden",
    "WORMConfigurationLocked": "forbidden",
    "InvalidDigest": "checksum_mismatch",
    "NoSuchUpload": "upload_not_found",
    "ObjectAlreadyExists": "destination_exists",
    "PartNotSequential": "invalid_part",
    "PreconditionFailed": "source_changed",
    **dict.fromkeys(OTHER, "response_status"),
}


def exported() -> list[type[Any]]:
    found = {each for each in vars(sdk).values() if inspect.isclass(each)}
    return sorted((each for each in found if issubclass(each, sdk.OssError)), key=lambda each: each.__name__)


def example(kind: type[Exception]) -> Exception:
    """One as the SDK raises it, with all that a server may have written into it."""
    details = {"Code": getattr(kind, "code", ""), "Message": f"see {SIGNED}", "StringToSign": CANARY}
    status = getattr(kind, "status", 400)
    build: Mapping[str, tuple[object, ...]] = {
        "ClientError": (f"bad endpoint {SIGNED}",),
        "InconsistentError": (f"crc of {SIGNED}",),
        "OpenApiFormatError": (SIGNED,),
        "OpenApiServerError": (500, "id", SIGNED, "Code"),
        "RequestError": (ConnectionError(SIGNED),),
        "SelectOperationClientError": (SIGNED, "id"),
        "SelectOperationFailed": (400, "Code", SIGNED),
    }
    usual: tuple[object, ...] = (status, {"x-oss-next-append-position": "1"}, f"<Error>{CANARY}</Error>", details)
    arguments = build.get(kind.__name__, usual)
    return kind(*arguments)


def mapped(raised: BaseException, **options: type[ProviderError]) -> ProviderError:
    with pytest.raises(ProviderError) as caught, oss_errors("put oss://b/k", **options):
        raise raised
    return caught.value


@pytest.mark.parametrize("kind", exported(), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_sdk_has_a_meaning_and_tells_nothing_that_was_signed(kind: type[Exception]) -> None:
    error = mapped(example(kind))

    expected = MEANING.get(kind.__name__) or ("not_found" if issubclass(kind, sdk.NotFound) else "?")
    if kind.__name__ == "NoSuchWORMConfiguration" or kind.__name__.startswith("NoSuchTransfer"):
        expected = "not_found"
    assert error.code == expected
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(pickle.dumps(error))
    assert CANARY not in shown
    assert SIGNATURE not in shown


@pytest.mark.parametrize("raised", [ParseError("no element found"), RuntimeError("parse xml: UploadId")])
def test_a_reply_that_cannot_be_read_is_a_parse_error(raised: Exception) -> None:
    assert mapped(raised).code == "response_parse"


MEANINGS = [
    ("AccessDenied", 403, "forbidden", False),
    ("InvalidAccessKeyId", 403, "forbidden", False),
    ("SignatureDoesNotMatch", 403, "forbidden", False),
    ("SecurityTokenExpired", 403, "credential_expired", False),
    ("RequestTimeTooSkewed", 403, "credential_expired", False),
    ("NoSuchBucket", 404, "not_found", False),
    ("NoSuchKey", 404, "not_found", False),
    ("NoSuchUpload", 404, "upload_not_found", False),
    ("InvalidPart", 400, "invalid_part", False),
    ("InvalidPartOrder", 400, "invalid_part", False),
    ("EntityTooSmall", 400, "invalid_part", False),
    ("InvalidDigest", 400, "checksum_mismatch", False),
    ("FileAlreadyExists", 409, "destination_exists", False),
    ("FileImmutable", 409, "destination_exists", False),
    ("InvalidRange", 416, "invalid_range", False),
    ("PreconditionFailed", 412, "source_changed", False),
    ("InvalidObjectState", 403, "response_status", False),
    ("NotImplemented", 400, "response_status", False),
    ("QpsLimitExceeded", 503, "throttled", True),
    ("DownloadTrafficRateLimitExceeded", 503, "throttled", True),
    ("RequestTimeout", 400, "transport", True),
    ("InternalError", 500, "server_fault", True),
    ("NeverHeardOf", 400, "response_status", False),
    ("NeverHeardOf", 500, "server_fault", True),
    ("", 403, "forbidden", False),
    ("", 404, "not_found", False),
    ("", 502, "server_fault", True),
    ("", 429, "throttled", True),
]


@pytest.mark.parametrize(("code", "status", "meaning", "retryable"), MEANINGS)
@pytest.mark.parametrize("in_head", [False, True], ids=["body", "head"])
def test_a_code_means_the_same_from_the_sdk_and_from_a_reply(
    code: str, status: int, meaning: str, retryable: bool, in_head: bool
) -> None:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code></Error>'.encode()
    headers = {"x-oss-err": base64.b64encode(body).decode()} if in_head else {}
    reply = Reply(status, headers, b"" if in_head else body, "http://b.oss.test/k")

    by_sdk = mapped(sdk.ServerError(status, {}, body, {"Code": code} if code else {}))
    by_reply = reply_error(reply, what="put oss://b/k")

    assert (by_sdk.code, by_sdk.retryable, by_sdk.status) == (meaning, retryable, status)
    assert (by_reply.code, by_reply.retryable, by_reply.status) == (meaning, retryable, status)
    assert str(by_sdk) == str(by_reply)


def test_every_code_of_the_table_has_a_class_of_ours() -> None:
    assert {oss_error(code, 409, what="x").code for code in BY_CODE} == {each.code for each in BY_CODE.values()}


def test_what_a_412_means_depends_on_what_was_asked() -> None:
    raised = sdk.PreconditionFailed(412, {}, b"", {"Code": "PreconditionFailed"})

    assert isinstance(mapped(raised), SourceChanged)
    assert isinstance(mapped(raised, precondition=DestinationExists), DestinationExists)


def test_a_url_past_its_time_is_an_expired_credential() -> None:
    assert oss_error("AccessDenied", 403, what="x", message="Request has expired.").code == "credential_expired"


@pytest.mark.parametrize(("key", "meaning"), [("STS.NUlong", "credential_expired"), ("LTAI5tlong", "forbidden")])
def test_lent_keys_that_the_service_has_forgotten_have_ended(key: str, meaning: str) -> None:
    body = f"<Error><Code>InvalidAccessKeyId</Code><OSSAccessKeyId>{key}</OSSAccessKeyId></Error>".encode()

    by_sdk = mapped(sdk.ServerError(403, {}, body, {"Code": "InvalidAccessKeyId", "OSSAccessKeyId": key}))
    by_reply = reply_error(Reply(403, {}, body, "http://b.oss.test/k"), what="put oss://b/k")

    assert by_sdk.code == by_reply.code == meaning
    assert str(by_sdk) == str(by_reply)
    assert key not in str(by_sdk)


def test_throttling_says_when_to_come_back() -> None:
    reply = Reply(503, {"Retry-After": "3"}, b"<Error><Code>SlowDown</Code></Error>", "http://b.oss.test/k")

    assert reply_error(reply, what="x").retry_after_seconds == 3


@pytest.mark.parametrize(
    "leak",
    [
        f"x-oss-signature={SIGNATURE}",
        f"the signature {SIGNATURE} is wrong",
        f"Signature: {CANARY}",
        f"OSSAccessKeyId={CANARY}",
        f"x-oss-security-token:{CANARY}",
        f"StringToSign: {CANARY}",
        f"Authorization: OSS LTAI:{CANARY}",
        f"OSS4-HMAC-SHA256\n20261121T000000Z\n{CANARY}",
        f"GET /b/k?uploads&x-oss-credential={CANARY}",
        "LTAI5tCANARYCANARY does not exist",
    ],
)
def test_a_server_that_repeats_the_request_gives_nothing_away(leak: str) -> None:
    body = f"<Error><Code>Odd</Code><Message>{leak}</Message></Error>".encode()

    error = reply_error(Reply(403, {}, body, "http://b.oss.test/k"), what="x")

    assert CANARY not in str(error)
    assert SIGNATURE not in str(error)


def test_a_body_that_is_no_xml_or_endless_is_no_trouble() -> None:
    assert reply_error(Reply(500, {}, b"\xff\xfe not xml", ""), what="x").code == "server_fault"
    assert code_of(Reply(403, {"x-oss-err": "not base64"}, b"", "")) == ""
    assert len(str(oss_error("Odd", 400, what="x", message="y" * 100_000))) < 400


def test_the_sdk_logs_no_heads_and_no_bodies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    for name in ("oss2.api", "oss2.auth", "oss2.http"):
        logging.getLogger(name).info("Exception: %s", CANARY)
        logging.getLogger(name).debug(CANARY)

    assert CANARY not in caplog.text
