"""What requests, urllib3, http.client and a status line say, in the words of the error tree."""

from __future__ import annotations

import http.client
import ssl
from email.utils import formatdate

import pytest
import requests.exceptions
import urllib3.exceptions
from requests.structures import CaseInsensitiveDict

from providers.errors import (
    Forbidden,
    InvalidRange,
    InvalidValue,
    NotFound,
    ProviderError,
    ResponseStatusError,
    ServerFault,
    SourceChanged,
    Stalled,
    Throttled,
    TransportError,
)
from providers.http_errors import transport_errors
from providers.reply import Reply, retry_after_seconds, status_error

SECRET_URL = "https://host/path?X-Amz-Signature=CANARY"


def full_name(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def exceptions_of(module: object) -> list[type[Exception]]:
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Exception)]
    own = [each for each in found if each.__module__.startswith(("requests.", "urllib3.", "http."))]
    return [each for each in own if not issubclass(each, Warning)]


ALL: set[type[Exception]] = {
    *exceptions_of(requests.exceptions),
    *exceptions_of(urllib3.exceptions),
    *exceptions_of(http.client),
    ConnectionResetError,
    BrokenPipeError,
    TimeoutError,
    ssl.SSLError,
    ssl.SSLCertVerificationError,
}


@pytest.mark.parametrize("kind", sorted(ALL, key=str), ids=full_name)
def test_every_exception_of_the_libraries_is_mapped_and_its_text_left_behind(kind: type[Exception]) -> None:
    exc = kind.__new__(kind)
    exc.args = (f"failed for {SECRET_URL}",)

    with pytest.raises((TransportError, InvalidValue)) as caught, transport_errors(SECRET_URL):
        raise exc

    assert "CANARY" not in f"{caught.value}{caught.value!r}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (TimeoutError(), Stalled),
        (urllib3.exceptions.ProtocolError("broken", TimeoutError()), Stalled),
        (requests.exceptions.ReadTimeout(), Stalled),
        (ConnectionResetError(), TransportError),
        (http.client.IncompleteRead(b""), TransportError),
    ],
)
def test_a_time_out_in_a_body_means_that_the_bytes_stopped(exc: Exception, kind: type[ProviderError]) -> None:
    with pytest.raises(TransportError) as caught, transport_errors("http://h/", in_body=True):
        raise exc

    assert type(caught.value) is kind


def test_our_own_errors_pass_unchanged() -> None:
    ours = NotFound("gone")

    with pytest.raises(NotFound) as caught, transport_errors("http://h/"):
        raise ours

    assert caught.value is ours


@pytest.mark.parametrize(
    ("status", "headers", "kind", "retryable"),
    [
        (400, {}, ResponseStatusError, False),
        (401, {}, Forbidden, False),
        (403, {}, Forbidden, False),
        (404, {}, NotFound, False),
        (410, {}, NotFound, False),
        (408, {}, Throttled, True),
        (412, {}, SourceChanged, False),
        (416, {}, InvalidRange, False),
        (418, {}, ResponseStatusError, False),
        (425, {}, Throttled, True),
        (429, {}, Throttled, True),
        (500, {}, ServerFault, True),
        (503, {}, ServerFault, True),
        (503, {"Retry-After": "3"}, Throttled, True),
        (599, {}, ServerFault, True),
    ],
)
def test_a_status_has_one_meaning(
    status: int, headers: dict[str, str], kind: type[ProviderError], retryable: bool
) -> None:
    error = status_error(
        Reply(status, CaseInsensitiveDict(headers), b"CANARY", SECRET_URL), what="GET https://host/path"
    )

    assert type(error) is kind
    assert error.retryable is retryable
    assert error.status == status
    assert "CANARY" not in str(error)


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": " 120 "}, 120.0),
        ({"Retry-After": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"Retry-After": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"Retry-After": formatdate(NOW + 500, usegmt=True), "Date": formatdate(NOW + 490, usegmt=True)}, 10.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "9" * 400}, 999_999_999.0),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(CaseInsensitiveDict(headers), NOW) == seconds


def test_a_reply_shows_nothing_but_its_status() -> None:
    assert repr(Reply(200, {"Set-Cookie": "CANARY"}, b"CANARY", SECRET_URL)) == "Reply(status=200)"
