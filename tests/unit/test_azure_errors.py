"""What each code of Azure means, and that no error gives a secret away."""

from __future__ import annotations

import pickle
import traceback

import pytest
from azure.core import exceptions as core
from azure.storage.blob import StorageErrorCode
from azure.storage.blob._shared.authentication import AzureSigningError
from requests.structures import CaseInsensitiveDict

from providers.azure_errors import BY_CODE, azure_error, azure_errors, reply_error
from providers.errors import DestinationExists, ProviderError
from providers.reply import Reply

CANARY = "CANARYCANARYCANARY"
SIGNATURE = "q1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h6j7k8l9z0x1c="


def reply(status: int, code: str = "", message: str = "", **headers: str) -> Reply:
    body = f'\ufeff<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, CaseInsensitiveDict(headers), body.encode() if code else b"")


@pytest.mark.parametrize("code", [each.value for each in StorageErrorCode])
def test_every_code_the_sdk_names_has_a_meaning(code: str) -> None:
    error = azure_error(code, 409, what="x")

    if code in BY_CODE:
        assert type(error) is BY_CODE[code]
    elif code in ("ConditionNotMet", "TargetConditionNotMet"):
        assert error.code == "source_changed"
    else:
        assert (error.code, error.retryable) == ("response_status", False), "an unknown refusal is final"


def test_every_code_of_the_table_is_azures_or_noted_here() -> None:
    younger = {
        "AuthorizationPermissionMismatch",
        "AuthorizationProtocolMismatch",
        "AuthorizationResourceTypeMismatch",
        "AuthorizationServiceMismatch",
        "AuthorizationSourceIPMismatch",
        "Crc64Mismatch",
        "PublicAccessNotPermitted",
    }

    assert set(BY_CODE) - {each.value for each in StorageErrorCode} == younger


MEANINGS = [
    ("AuthenticationFailed", 403, "forbidden", False),
    ("AuthorizationFailure", 403, "forbidden", False),
    ("AuthorizationPermissionMismatch", 403, "forbidden", False),
    ("PublicAccessNotPermitted", 409, "forbidden", False),
    ("BlobNotFound", 404, "not_found", False),
    ("ContainerNotFound", 404, "not_found", False),
    ("BlobAlreadyExists", 409, "destination_exists", False),
    ("InvalidBlockList", 400, "invalid_part", False),
    ("InvalidBlobOrBlock", 400, "response_status", False),
    ("InvalidRange", 416, "invalid_range", False),
    ("ConditionNotMet", 412, "source_changed", False),
    ("SourceConditionNotMet", 412, "source_changed", False),
    ("LeaseIdMissing", 412, "response_status", False),
    ("BlobArchived", 409, "response_status", False),
    ("Md5Mismatch", 400, "checksum_mismatch", False),
    ("ServerBusy", 503, "throttled", True),
    ("OperationTimedOut", 500, "server_fault", True),
    ("InternalError", 500, "server_fault", True),
    ("ContainerBeingDeleted", 409, "server_fault", True),
    ("NeverHeardOf", 400, "response_status", False),
    ("NeverHeardOf", 500, "server_fault", True),
    ("", 404, "not_found", False),
    ("", 412, "source_changed", False),
    ("", 429, "throttled", True),
    ("", 502, "server_fault", True),
]


@pytest.mark.parametrize(("code", "status", "meaning", "retryable"), MEANINGS)
def test_a_code_means_the_same_in_a_body_and_in_a_header(code: str, status: int, meaning: str, retryable: bool) -> None:
    by_body = reply_error(reply(status, code), what="put azblob://c/b")
    by_header = reply_error(reply(status, **{"X-Ms-Error-Code": code}), what="put azblob://c/b")

    assert (by_body.code, by_body.retryable, by_body.status) == (meaning, retryable, status)
    assert str(by_body) == str(by_header)


def test_what_a_condition_means_depends_on_what_was_asked() -> None:
    assert isinstance(
        reply_error(reply(412, "ConditionNotMet"), what="x", precondition=DestinationExists), DestinationExists
    )
    assert (
        reply_error(reply(412, "SourceConditionNotMet"), what="x", precondition=DestinationExists).code
        == "source_changed"
    )


def test_throttling_says_when_to_come_back() -> None:
    assert reply_error(reply(503, "ServerBusy", **{"Retry-After": "7"}), what="x").retry_after_seconds == 7


def test_a_sas_out_of_its_time_has_run_out() -> None:
    body = (
        "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.</Message>"
        "<AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [..] - Expiry [..] - "
        "Current [..]</AuthenticationErrorDetail></Error>"
    )

    assert reply_error(Reply(403, {}, body.encode()), what="x").code == "credential_expired"


@pytest.mark.parametrize(
    "leak",
    [
        f"GET https://a.blob/c/b?sv=1&amp;sig={CANARY}",
        f"sig={CANARY}",
        f"The MAC signature found in the HTTP request '{SIGNATURE}' is not the same as any computed signature",
        f"Authorization: SharedKey acct:{CANARY}",
        f"Bearer {CANARY}",
        f"AccountKey={CANARY}",
        f"x-ms-copy-source:https://a.blob/c/b?{CANARY}",
        f"No.\nRequestId:1\nString to sign was {CANARY}",
    ],
)
def test_a_server_that_repeats_the_request_gives_nothing_away(leak: str) -> None:
    error = reply_error(reply(400, "Odd", leak), what="x")

    assert CANARY not in str(error)
    assert SIGNATURE not in str(error)


def test_only_code_and_message_of_an_error_body_are_shown() -> None:
    body = f"<Error><Code>Odd</Code><Message>No.\nTime:1</Message><Detail>{CANARY}</Detail></Error>"

    assert str(reply_error(Reply(403, {}, body.encode()), what="x")) == "x: Odd (status 403): No."


def test_a_body_that_is_no_xml_or_endless_is_no_trouble() -> None:
    assert reply_error(Reply(500, {}, b"\xff\xfe"), what="x").code == "server_fault"
    assert len(str(azure_error("Odd", 400, what="x", message="y " * 100_000))) < 400


@pytest.mark.parametrize(
    "kind",
    [
        core.AzureError,
        core.ServiceRequestError,
        core.HttpResponseError,
        core.DecodeError,
        AzureSigningError,
        ValueError,
    ],
)
def test_what_the_sdk_raises_while_it_signs_is_ours_and_tells_nothing(kind: type[Exception]) -> None:
    with pytest.raises(ProviderError) as caught, azure_errors("signing"):
        raise kind(f"https://a.blob/c/b?sig={CANARY}")

    shown = "".join(traceback.format_exception(caught.value)) + repr(pickle.dumps(caught.value))
    assert CANARY not in shown
