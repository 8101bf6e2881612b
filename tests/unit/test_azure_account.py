"""From a profile to an endpoint, and from a request to its signature, without a network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from requests import PreparedRequest, Request
from requests.structures import CaseInsensitiveDict

from providers.azure_account import AzureAccount, account_for, credential_of
from providers.base import Options, Profile, Services
from providers.errors import InvalidValue, ProviderError
from providers.reply import Reply
from providers.transport import TransportConfig

KEY = base64.b64encode(b"a secret of the account").decode()
SAS = "sv=2023-11-03&sp=rw&se=2026-11-21T12%3A00%3A00Z&sig=CANARYSIG%3D"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=acct1;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn"
BY_SAS = {"account": "acct1", "sas_token": SAS}
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


def account(values: dict[str, str], *, now: float = NOON) -> AzureAccount:
    return AzureAccount(Profile("test", values), TransportConfig(), clock=lambda: now)


def with_key(**values: str) -> AzureAccount:
    return account({"account": "acct1", "key": KEY, **values})


def signed(to: AzureAccount, method: str, query: str = "", **headers: str) -> PreparedRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(method, to.url("cont", "a b.bin") + query, headers=named).prepare()
    to.sign(request)
    return request


def refusal(*, date: float, code: str = "AuthenticationFailed") -> Reply:
    headers = CaseInsensitiveDict({"Date": formatdate(date, usegmt=True), "x-ms-error-code": code})
    return Reply(403, headers)


# where


@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({"account": "acct1", "key": KEY}, "https://acct1.blob.core.windows.net"),
        ({"account": "acct1", "sas_token": SAS}, "https://acct1.blob.core.windows.net"),
        ({"endpoint": "https://blobs.example:8443/acct1/", "sas_token": SAS}, "https://blobs.example:8443/acct1"),
        ({"connection_string": CONNECTION}, "https://acct1.blob.core.chinacloudapi.cn"),
        ({"connection_string": f"{CONNECTION};BlobEndpoint=http://10.0.0.1/x"}, "http://10.0.0.1/x"),
        ({"connection_string": CONNECTION, "endpoint": "https://mine"}, "https://mine"),
        ({"connection_string": "UseDevelopmentStorage=true"}, "http://127.0.0.1:10000/devstoreaccount1"),
        ({"connection_string": f"BlobEndpoint=https://h/;SharedAccessSignature={SAS}"}, "https://h"),
    ],
)
def test_a_profile_says_where_the_account_is(values: dict[str, str], endpoint: str) -> None:
    assert account(values).endpoint == endpoint


def test_what_a_profile_says_itself_counts_more_than_its_connection_string() -> None:
    found = credential_of(Profile("test", {"connection_string": CONNECTION, "sas_token": f"?{SAS}"}))

    assert (found.account, found.key, found.sas) == ("acct1", "", SAS)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"key": KEY}, "account"),
        ({"account": "acct1"}, "key"),
        ({"account": "acct1", "key": "CANARY: no base64"}, "key"),
        ({"account": "acct1", "key": KEY, "sas_token": "sig=CANARY"}, "sas_token"),
        ({"account": "acct1", "sas_token": "CANARY"}, "sas_token"),
        ({"sas_token": SAS}, "account"),
        ({"connection_string": "CANARY"}, "connection_string"),
        ({"account": "acct1", "key": KEY, "endpoint": "acct1.blob"}, "endpoint"),
        ({"account": "acct1", "key": KEY, "endpoint": "https://u:CANARY@h/?CANARY"}, "endpoint"),
        ({"account": "acct1", "key": KEY, "endpoint": "https://h:99999999/"}, "endpoint"),
        ({"account": "acct1", "key": KEY, "api_version": "latest"}, "api_version"),
        ({"account": "acct1", "key": KEY, "api_version": "2019-02-02"}, "api_version"),
        ({"account": "acct1", "key": KEY, "access_tier": "Lukewarm"}, "access_tier"),
    ],
)
def test_a_profile_that_cannot_work_is_refused_by_name_and_tells_no_secret(values: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        account(values)

    assert refused.value.field == f"profile test: {field}"
    assert "CANARY" not in str(refused.value)


def test_secrets_show_nowhere() -> None:
    shown = "".join(
        repr(each) + repr(credential_of(Profile("test", values)))
        for values in ({"account": "acct1", "key": KEY}, {"account": "acct1", "sas_token": SAS})
        for each in (account(values), vars(account(values)))
    )

    assert KEY not in shown
    assert "CANARYSIG" not in shown


# signatures


def test_a_block_is_signed_as_microsoft_describes_it() -> None:
    request = signed(
        with_key(), "PUT", "?comp=block&blockid=MDAwMDAwMDE%3D", Content_Length="5", Content_Type="application/x-parts"
    )

    to_sign = (
        "PUT\n\n\n5\n\napplication/x-parts\n\n\n\n\n\n\n"
        "x-ms-date:Sat, 21 Nov 2026 12:00:00 GMT\nx-ms-version:2023-11-03\n"
        "/acct1/cont/a%20b.bin\nblockid:MDAwMDAwMDE=\ncomp:block"
    )
    digest = hmac.digest(base64.b64decode(KEY), to_sign.encode(), hashlib.sha256)
    assert request.headers["Authorization"] == f"SharedKey acct1:{base64.b64encode(digest).decode()}"
    assert request.headers["Authorization"] == "SharedKey acct1:UeBOSFd5a5+lBwuwYeLCuqLxLDP9o1zE6sWuSVUWtMQ="


def test_range_and_condition_are_inside_the_signature() -> None:
    request = signed(with_key(), "GET", Range="bytes=0-99", If_Match='"0x1"')

    to_sign = (
        'GET\n\n\n\n\n\n\n\n"0x1"\n\n\n\n'
        "x-ms-date:Sat, 21 Nov 2026 12:00:00 GMT\nx-ms-range:bytes=0-99\nx-ms-version:2023-11-03\n"
        "/acct1/cont/a%20b.bin"
    )
    digest = hmac.digest(base64.b64decode(KEY), to_sign.encode(), hashlib.sha256)
    assert request.headers["Authorization"] == f"SharedKey acct1:{base64.b64encode(digest).decode()}"
    assert "Range" not in request.headers


def test_an_empty_body_has_no_length_in_the_signature() -> None:
    one, other = (signed(with_key(), "PUT", Content_Length=length) for length in ("0", "1"))

    assert one.headers["Authorization"] == signed(with_key(), "PUT", Content_Length="").headers["Authorization"]
    assert one.headers["Authorization"] != other.headers["Authorization"]


def test_a_sas_goes_into_the_query_and_needs_no_header() -> None:
    plain, asking = (signed(account(BY_SAS), "GET", query) for query in ("", "?comp=block"))

    assert plain.url == f"https://acct1.blob.core.windows.net/cont/a%20b.bin?{SAS}"
    assert asking.url == f"https://acct1.blob.core.windows.net/cont/a%20b.bin?comp=block&{SAS}"
    assert "Authorization" not in plain.headers


def test_another_version_of_the_service_can_be_asked_for() -> None:
    request = signed(with_key(api_version="2025-11-05"), "GET")

    assert request.headers["x-ms-version"] == "2025-11-05"


# clocks


def test_a_clock_that_is_off_is_corrected_by_the_services() -> None:
    to = with_key()

    error = to.error(refusal(date=NOON + 3600), what="put")

    assert (error.code, error.retryable) == ("server_fault", True)
    assert "3600 s" in str(error)
    assert signed(to, "GET").headers["x-ms-date"] == "Sat, 21 Nov 2026 13:00:00 GMT"
    assert to.error(refusal(date=NOON + 3601), what="put").code == "forbidden", "corrected: it is not the clock"


def test_a_refusal_at_the_right_time_is_no_matter_of_clocks() -> None:
    to = with_key()

    assert to.error(refusal(date=NOON + 5), what="put").code == "forbidden"
    assert to.error(Reply(403), what="put").code == "forbidden"
    assert signed(to, "GET").headers["x-ms-date"] == "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("now", "date", "code"),
    [
        (NOON - 60, NOON - 60, "forbidden"),
        (NOON + 60, NOON + 60, "credential_expired"),
        (NOON - 3600, NOON + 60, "credential_expired"),  # by the service's clock
        (NOON + 3600, NOON - 60, "forbidden"),
    ],
)
def test_a_sas_that_ran_out_is_told_from_one_that_may_not(now: float, date: float, code: str) -> None:
    to = account(BY_SAS, now=now)

    error: ProviderError = to.error(refusal(date=date, code="AuthorizationFailure"), what="put")

    assert error.code == code
    assert "CANARY" not in str(error)


def test_threads_share_one_account_and_a_new_key_makes_another() -> None:
    found: list[AzureAccount] = []
    values = {"account": "acct1", "key": KEY}

    def ask(**more: str) -> AzureAccount:
        return account_for(Profile("test", {**values, **more}), Options(), Services())

    threads = [threading.Thread(target=lambda: found.append(ask())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(each) for each in found}) == 1
    assert ask(key=base64.b64encode(b"rotated").decode()) is not found[0]
