"""Every error that botocore or an S3 service can give has one meaning of ours, and none of them tells a secret."""

from __future__ import annotations

import inspect
import pickle
import socket
import string
import traceback
from typing import Any

import boto3.session
import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from providers.errors import DestinationExists, ProviderError, SourceChanged
from providers.s3_errors import BY_CODE, reply_error, s3_error, s3_errors

CANARY = "CANARYCANARY"
SIGNATURE = "0123456789abcdef" * 4
SIGNED = f"https://b.s3.test/k?partNumber=1&X-Amz-Credential={CANARY}%2F20261121&X-Amz-Signature={SIGNATURE}"

NETWORK = {
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "SSLError",
}
RENEWABLE = {
    "CredentialRetrievalError",
    "LoginAuthorizationCodeError",
    "LoginError",
    "LoginInsufficientPermissions",
    "LoginRefreshRequired",
    "LoginTokenLoadError",
    "MetadataRetrievalError",
    "NoAuthTokenError",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
BAD_INPUT = {
    "AliasConflictParameterError",
    "InvalidDNSNameError",
    "InvalidHostLabelError",
    "InvalidRegionError",
    "ParamValidationError",
    "RangeError",
    "UnknownKeyError",
    "UnknownParameterError",
    "UnsupportedS3AccesspointConfigurationError",
    "UnsupportedS3ArnError",
    "ValidationError",
}
CHECKSUM = {"ChecksumError", "FlexibleChecksumError"}


def exported() -> list[type[Exception]]:
    found = [each for _, each in inspect.getmembers(sdk, inspect.isclass) if issubclass(each, Exception)]
    return [each for each in found if not issubclass(each, Warning)]


def client_error(code: str, status: int, message: str = "") -> Any:
    """The part of botocore's dictionary that matters."""
    return {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}


def example(kind: type[Exception]) -> Exception:
    """An exception as botocore would raise it, every field of its text filled with a signed URL."""
    if issubclass(kind, sdk.ClientError):
        return kind(client_error("Odd", 400, SIGNED), "Op")
    if kind is sdk.UndefinedModelAttributeError:
        return kind(SIGNED)
    if issubclass(kind, sdk.WaiterError):
        return kind("name", SIGNED, {})
    template = getattr(kind, "fmt", "")
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    return kind(**{**dict.fromkeys(fields, SIGNED), "error": OSError(SIGNED)})


def mapped(raised: BaseException, **options: type[ProviderError]) -> ProviderError:
    with pytest.raises(ProviderError) as caught, s3_errors("put s3://b/k", **options):
        raise raised
    return caught.value


@pytest.mark.parametrize("kind", exported(), ids=lambda kind: kind.__name__)
def test_every_exception_botocore_exports_has_a_meaning(kind: type[Exception]) -> None:
    error = mapped(example(kind))

    name = kind.__name__
    expected = (
        "transport" if name in NETWORK
        else "credential_expired" if name in RENEWABLE
        else "invalid_value" if name in BAD_INPUT
        else "checksum_mismatch" if name in CHECKSUM
        else "response_status" if issubclass(kind, sdk.ClientError)
        else "http_client_build_failed"
    )  # fmt: skip
    assert error.code == expected
    assert error.retryable == (name in NETWORK)


@pytest.mark.parametrize("kind", exported(), ids=lambda kind: kind.__name__)
def test_no_error_tells_what_was_signed(kind: type[Exception]) -> None:
    error = mapped(example(kind))

    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(pickle.dumps(error))
    assert CANARY not in shown
    assert SIGNATURE not in shown


def test_a_reply_that_is_no_xml_cannot_be_parsed() -> None:
    assert mapped(ResponseParserError("invalid XML received")).code == "response_parse"


def test_every_error_the_model_of_s3_names_is_known_or_final() -> None:
    client = boto3.session.Session().client("s3", region_name="us-east-1")
    modelled = set(client.exceptions._code_to_exception)
    client.close()

    meanings = {code: s3_error(code, 409, what="x").code for code in modelled}

    assert meanings["NoSuchUpload"] == "upload_not_found"
    assert meanings["NoSuchKey"] == meanings["NoSuchBucket"] == "not_found"
    assert meanings["AccessDenied"] == "forbidden"
    unknown = {code for code in modelled if code not in BY_CODE}
    assert {meanings[code] for code in unknown} == {"response_status"}


MEANINGS = [
    ("AccessDenied", 403, "forbidden", False),
    ("InvalidAccessKeyId", 403, "forbidden", False),
    ("SignatureDoesNotMatch", 403, "forbidden", False),
    ("InvalidToken", 400, "forbidden", False),
    ("ExpiredToken", 400, "credential_expired", False),
    ("RequestTimeTooSkewed", 403, "credential_expired", False),
    ("NoSuchBucket", 404, "not_found", False),
    ("NoSuchKey", 404, "not_found", False),
    ("NoSuchVersion", 404, "not_found", False),
    ("NoSuchUpload", 404, "upload_not_found", False),
    ("InvalidPart", 400, "invalid_part", False),
    ("InvalidPartOrder", 400, "invalid_part", False),
    ("EntityTooSmall", 400, "invalid_part", False),
    ("EntityTooLarge", 400, "response_status", False),
    ("BadDigest", 400, "checksum_mismatch", False),
    ("XAmzContentChecksumMismatch", 400, "checksum_mismatch", False),
    ("InvalidRange", 416, "invalid_range", False),
    ("PreconditionFailed", 412, "source_changed", False),
    ("InvalidObjectState", 403, "response_status", False),
    ("PermanentRedirect", 301, "response_status", False),
    ("MethodNotAllowed", 405, "response_status", False),
    ("NotImplemented", 501, "response_status", False),
    ("SlowDown", 503, "throttled", True),
    ("ServiceUnavailable", 503, "throttled", True),
    ("TooManyRequests", 429, "throttled", True),
    ("RequestTimeout", 400, "transport", True),
    ("IncompleteBody", 400, "transport", True),
    ("InternalError", 500, "server_fault", True),
    ("InternalError", 200, "server_fault", True),
    ("ConditionalRequestConflict", 409, "server_fault", True),
    ("OperationAborted", 409, "server_fault", True),
    ("NeverHeardOf", 400, "response_status", False),
    ("NeverHeardOf", 418, "response_status", False),
    ("NeverHeardOf", 500, "server_fault", True),
    ("404", 404, "not_found", False),
    ("403", 403, "forbidden", False),
    ("412", 412, "source_changed", False),
    ("", 502, "server_fault", True),
    ("", 429, "throttled", True),
]


@pytest.mark.parametrize(("code", "status", "meaning", "retryable"), MEANINGS)
def test_a_code_means_the_same_from_the_sdk_and_from_a_reply(
    code: str, status: int, meaning: str, retryable: bool
) -> None:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code></Error>'.encode()

    by_sdk = mapped(sdk.ClientError(client_error(code, status), "PutObject"))
    by_reply = reply_error(status, {}, body, what="put s3://b/k")

    assert (by_sdk.code, by_sdk.retryable, by_sdk.status) == (meaning, retryable, status)
    assert (by_reply.code, by_reply.retryable, by_reply.status) == (meaning, retryable, status)
    assert str(by_sdk) == str(by_reply)


def test_what_a_412_means_depends_on_what_was_asked() -> None:
    raised = sdk.ClientError(client_error("PreconditionFailed", 412), "Op")

    assert isinstance(mapped(raised), SourceChanged)
    assert isinstance(mapped(raised, precondition=DestinationExists), DestinationExists)


def test_retry_after_is_read_in_any_case_of_its_name() -> None:
    body = b"<Error><Code>SlowDown</Code></Error>"

    assert reply_error(503, {"retry-after": "3"}, body, what="x").retry_after_seconds == 3


def test_a_useful_message_is_kept() -> None:
    message = "User: arn:aws:iam::1:user/u is not authorized to perform: s3:PutObject on resource: b/k"

    error = s3_error("AccessDenied", 403, what="put s3://b/k", message=message)

    assert str(error) == f"put s3://b/k: AccessDenied (status 403): {message}"


@pytest.mark.parametrize(
    "leak",
    [
        f"X-Amz-Signature={SIGNATURE}",
        f"the signature {SIGNATURE} is wrong",
        f"Signature: {CANARY}",
        f"AWSAccessKeyId={CANARY}",
        f"x-amz-security-token:{CANARY}",
        f"StringToSign: {CANARY}",
        f"AWS4-HMAC-SHA256\n20261121T000000Z\n{CANARY}",
        f"GET /b/k?uploads&X-Amz-Credential={CANARY}",
        "AKIAIOSFODNN7CANARYCANARY does not exist",
    ],
)
def test_a_server_that_repeats_the_request_gives_nothing_away(leak: str) -> None:
    error = reply_error(403, {}, f"<Error><Code>Odd</Code><Message>{leak}</Message></Error>".encode(), what="x")

    assert CANARY not in str(error)
    assert SIGNATURE not in str(error)


def test_only_code_and_message_of_an_error_body_are_shown() -> None:
    body = (
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message><AWSAccessKeyId>{CANARY}</AWSAccessKeyId>"
        f"<StringToSign>{CANARY}</StringToSign><SignatureProvided>{SIGNATURE}</SignatureProvided></Error>"
    )

    assert str(reply_error(403, {}, body.encode(), what="x")) == "x: SignatureDoesNotMatch (status 403): No."


def test_a_body_that_is_no_xml_or_endless_is_no_trouble() -> None:
    assert reply_error(500, {}, b"\xff\xfe not xml", what="x").code == "server_fault"
    assert len(str(s3_error("Odd", 400, what="x", message="y" * 100_000))) < 400


def test_a_network_fault_is_told_in_the_systems_words() -> None:
    refused = sdk.EndpointConnectionError(endpoint_url=SIGNED, error=ConnectionRefusedError(111, "Connection refused"))
    unresolved = sdk.EndpointConnectionError(endpoint_url=SIGNED, error=socket.gaierror(-2, "Name not known"))

    assert str(mapped(refused)).endswith("EndpointConnectionError: ConnectionRefusedError: Connection refused")
    assert str(mapped(unresolved)).endswith("gaierror: Name not known")
