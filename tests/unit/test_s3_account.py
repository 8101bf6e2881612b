"""From a profile to clients, URLs and signatures, without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.httpsession import URLLib3Session
from requests import PreparedRequest, Request

from providers.base import Options, Profile, Services
from providers.errors import InvalidValue, ProviderError, ProviderUnavailable
from providers.s3_account import S3Account, account_for

KEYS = {"access_key": "AKCANARYID", "secret_key": "SECRETCANARY", "session_token": "TOKENCANARY"}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Requests of the SDK, none of which leaves: each bucket lives in eu-west-3. No configuration is found."""
    urls: list[str] = []

    def answer(session: URLLib3Session, request: Any) -> AWSResponse:
        urls.append(f"{request.method} {request.url}")
        here = "eu-west-3" in request.url
        headers = HTTPHeaders.from_dict({"x-amz-bucket-region": "eu-west-3"})

        class Raw:
            def stream(self) -> Iterator[bytes]:
                yield b""

        return AWSResponse(request.url, 200 if here else 301, headers, Raw())

    monkeypatch.setattr(URLLib3Session, "send", answer)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return urls


def account(**values: str) -> S3Account:
    return account_for(Profile("test", values), Options(), Services())


def signed(account: S3Account, key: str = "k", **headers: str) -> PreparedRequest:
    url, sign = account.place("bucket-1", key)
    request = Request("PUT", f"{url}?partNumber=1", headers=headers).prepare()
    sign(request)
    return request


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({"endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/bucket-1/a%20b/%C3%BC%25"),
        ({"endpoint": "https://s3.test", "addressing": "path"}, "https://s3.test/bucket-1/a%20b/%C3%BC%25"),
        ({"endpoint": "https://s3.test", "addressing": "virtual"}, "https://bucket-1.s3.test/a%20b/%C3%BC%25"),
        ({"region": "eu-west-3"}, "https://bucket-1.s3.eu-west-3.amazonaws.com/a%20b/%C3%BC%25"),
        ({"region": "eu-west-3", "addressing": "path"}, "https://s3.eu-west-3.amazonaws.com/bucket-1/a%20b/%C3%BC%25"),
        (
            {"region": "eu-west-3", "ipv6": "yes"},
            "https://bucket-1.s3.dualstack.eu-west-3.amazonaws.com/a%20b/%C3%BC%25",
        ),
    ],
)
def test_an_object_has_the_url_its_addressing_asks_for(values: dict[str, str], url: str) -> None:
    assert account(**KEYS, **values).place("bucket-1", "a b/ü%")[0] == url


@pytest.mark.parametrize("region", ["us-east-1", ""])
def test_a_bucket_in_another_region_is_found_before_bytes_are_sent(asked: list[str], region: str) -> None:
    place = account(**KEYS, region=region)

    request = signed(place)
    signed(place, "another key")

    assert str(request.url).startswith("https://bucket-1.s3.eu-west-3.amazonaws.com/k")
    assert "/eu-west-3/s3/aws4_request" in request.headers["Authorization"]
    assert [each.partition(" ")[0] for each in asked] == ["HEAD", "HEAD"]


def test_a_given_endpoint_is_never_asked_for_a_region(asked: list[str]) -> None:
    signed(account(**KEYS, endpoint="http://127.0.0.1:9000"))

    assert asked == []


def test_it_is_always_v4_over_the_head_alone() -> None:
    request = signed(
        account(**KEYS, endpoint="http://127.0.0.1:9000", region="xx-1"),
        **{"x-amz-meta-haulage-id": "t1", "Content-Type": "text/plain", "Range": "bytes=0-1", "User-Agent": "haulage"},
    )

    scheme, credential, names, signature = request.headers["Authorization"].replace(",", "").split()
    assert scheme == "AWS4-HMAC-SHA256"
    assert credential.startswith("Credential=AKCANARYID/")
    assert credential.endswith("/xx-1/s3/aws4_request")
    assert names == (
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-haulage-id;x-amz-security-token"
    )
    assert len(signature) == len("Signature=") + 64
    assert request.headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    assert "Signature" not in str(request.url)


def test_a_request_is_signed_anew_each_time() -> None:
    url, sign = account(**KEYS, endpoint="http://127.0.0.1:9000").place("bucket-1", "k")
    request = Request("GET", url).prepare()

    sign(request)
    first = dict(request.headers)
    sign(request)

    assert set(request.headers) == set(first)


def test_secrets_show_nowhere() -> None:
    place = account(**KEYS, endpoint="http://127.0.0.1:9000")

    shown = repr(place) + repr(vars(place)) + place.place("bucket-1", "k")[0]

    assert "SECRETCANARY" not in shown
    assert "TOKENCANARY" not in shown


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"addressing": "sideways"}, InvalidValue, "auto, path, virtual"),
        ({"endpoint": "s3.test"}, InvalidValue, "https://"),
        ({"endpoint": "https://"}, InvalidValue, "with a host"),
        ({"endpoint": "https://sp ace"}, InvalidValue, "host"),
        ({"proxy": "socks5://p:1"}, InvalidValue, "proxy"),
        ({"aws_profile": "nobody"}, ProviderUnavailable, "nobody"),
    ],
)
def test_a_profile_that_cannot_work_is_refused_by_name(
    values: dict[str, str], error: type[ProviderError], says: str
) -> None:
    with pytest.raises(error, match=says):
        account(**(values if "aws_profile" in values else {**KEYS, **values}))


def test_a_secret_in_an_endpoint_is_not_repeated() -> None:
    with pytest.raises(InvalidValue) as refused:
        account(**KEYS, endpoint="ftp://user:CANARY@host/?CANARY")

    assert "CANARY" not in str(refused.value)


def test_without_a_credential_anywhere_that_is_what_is_said() -> None:
    with pytest.raises(ProviderUnavailable, match="credentials"):
        account(endpoint="http://127.0.0.1:9000").place("bucket-1", "k")


def test_with_no_values_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    request = signed(account(region="eu-west-3", ipv6=""))

    assert "Credential=FROMENV/" in request.headers["Authorization"]


def test_threads_share_one_account_and_a_new_secret_makes_another() -> None:
    found: list[S3Account] = []
    values = {**KEYS, "endpoint": "http://127.0.0.1:9001"}
    threads = [threading.Thread(target=lambda: found.append(account(**values))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(each) for each in found}) == 1
    assert account(**{**values, "secret_key": "rotated"}) is not found[0]
    assert account(**{**values, "secret_key": "rotated"}).identity != found[0].identity
