"""Signatures of OSS: as Alibaba published them, and as its SDK makes them at the same instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import pytest
from requests import PreparedRequest, Request

from providers.oss_sdk import oss2
from providers.oss_signing import Keys, query_of, sign_v1, sign_v4, signing_key

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
KEYS = Keys("LTAIexample", "SECRETexample")
LENT = Keys("STS.example", "SECRETexample", "a token/with+signs==")
REGION = "cn-hangzhou"

CASES: list[tuple[str, str, dict[str, str], dict[str, str]]] = [
    ("GET", "k", {}, {}),
    ("PUT", "a b/ü%&+=?.bin", {"partNumber": "7", "uploadId": "0004B9/+=&"}, {"x-oss-forbid-overwrite": "true"}),
    ("POST", "日本/🎉", {"uploads": ""}, {"Content-Type": "text/x-parts", "x-oss-meta-haulage-id": "t1"}),
    ("GET", "", {"uploads": "", "prefix": "a/b", "max-uploads": "2", "key-marker": "", "encoding-type": "url"}, {}),
    (
        "PUT",
        "plus+and%2Fescaped",
        {},
        {"Content-MD5": "AAAA", "Range": "bytes=0-1", "X-Oss-Meta-B": "2", "x-oss-a": "1"},
    ),
    ("HEAD", "x//y/~t'(x)*!;:@$,", {"versionId": "CAEQ"}, {}),
]


def request_for(method: str, key: str, params: dict[str, str], headers: dict[str, str]) -> PreparedRequest:
    request = Request(method, "http://bucket.oss.test/", headers=headers).prepare()
    request.url = f"http://bucket.oss.test/{quote(key, safe='/-_.~')}{query_of(params)}"
    return request


def by_sdk(auth: Any, method: str, key: str, params: dict[str, str], headers: dict[str, str]) -> dict[str, str]:
    request = oss2.http.Request(
        method, "http://bucket.oss.test/", params=dict(params), headers=dict(headers), region=REGION, product="oss"
    )
    auth._sign_request(request, "bucket", key)
    return {name.lower(): value for name, value in request.headers.items()}


class Frozen(datetime):
    """What the SDK asks for the time."""

    at = NOON

    @classmethod
    def utcnow(cls) -> datetime:  # type: ignore[override]  # the SDK only formats it
        return cls.at.replace(tzinfo=None)


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oss2.auth, "datetime", Frozen)
    monkeypatch.setattr(oss2.auth.utils, "http_date", lambda: format_datetime(NOON, usegmt=True))


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("keys", [KEYS, LENT], ids=["own", "lent"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
@pytest.mark.parametrize("version", ["v4", "v1"])
def test_the_sdk_signs_alike(version: str, case: tuple[str, str, dict[str, str], dict[str, str]], keys: Keys) -> None:
    theirs = by_sdk(oss2.StsAuth(keys.access_key, keys.secret_key, keys.security_token, version), *case)
    request = request_for(*case)

    if version == "v4":
        sign_v4(request, "bucket", case[1], keys=keys, region=REGION, now=NOON)
    else:
        sign_v1(request, "bucket", case[1], keys=keys, now=NOON)

    for name in ("authorization", "x-oss-date", "date", "x-oss-security-token", "x-oss-content-sha256"):
        assert request.headers.get(name) == theirs.get(name), name


def test_the_signature_is_the_one_alibaba_publishes() -> None:
    params = {"param1": "value1", "+param1": "value3", "|param1": "value4", "+param2": "", "|param2": "", "param2": ""}
    headers = {"x-oss-head1": "value", "abc": "value", "ZAbc": "value", "XYZ": "value", "content-type": "text/plain"}
    request = request_for("PUT", "1234+-/123/1.txt", params, headers)

    sign_v4(
        request, "bucket", "1234+-/123/1.txt", keys=Keys("ak", "sk"), region=REGION,
        now=datetime.fromtimestamp(1702743657, UTC),
    )  # fmt: skip

    assert request.headers["Authorization"] == (
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request, "
        "Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
    )


@pytest.mark.parametrize("second", [-1, 0, 1])
def test_the_key_changes_at_midnight_of_utc(monkeypatch: pytest.MonkeyPatch, second: int) -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=second)
    monkeypatch.setattr(Frozen, "at", at)
    monkeypatch.setattr(oss2.auth, "datetime", Frozen)
    request = request_for(*CASES[0])

    elsewhere = at.astimezone(timezone(timedelta(hours=8)))  # where it is morning already
    sign_v4(request, "bucket", "k", keys=KEYS, region=REGION, now=elsewhere)

    day = "20261121" if second < 0 else "20261122"
    assert request.headers["x-oss-date"].startswith(day)
    assert f"/{day}/" in request.headers["Authorization"]
    assert (
        request.headers["Authorization"]
        == by_sdk(oss2.AuthV4(KEYS.access_key, KEYS.secret_key), *CASES[0])["authorization"]
    )


def test_the_key_is_derived_once_a_day() -> None:
    before = signing_key.cache_info().misses

    for hour in range(24):
        request = request_for(*CASES[0])
        now = datetime(2027, 1, 1 + hour // 12, hour, tzinfo=UTC)
        sign_v4(request, "bucket", "k", keys=KEYS, region="cn-once-a-day", now=now)

    assert signing_key.cache_info().misses - before == 2


def test_keys_show_no_secret() -> None:
    assert "SECRET" not in repr(LENT)
    assert "token" not in repr(LENT).replace("security_token", "")
