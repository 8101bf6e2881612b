"""From an OSS profile to URLs and signatures, without a network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from requests import Request

from providers.base import Options, Profile, Services, UploadPlan
from providers.errors import InvalidValue, ObjectTooLarge
from providers.oss import OssDestination
from providers.oss_account import OssAccount, account_for
from providers.oss_source import OssObject, OssSource
from providers.reply import Reply
from providers.schemes import GIB
from providers.transport import TransportConfig

KEYS = {"access_key": "AKCANARYID", "secret_key": "SECRETCANARY", "security_token": "TOKENCANARY"}
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def account(**values: str) -> OssAccount:
    return account_for(Profile("test", {**KEYS, **values}), Options(), Services())


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({"region": "cn-beijing"}, "https://b-1.oss-cn-beijing.aliyuncs.com/a%20b/%C3%BC%25"),
        (
            {"region": "cn-beijing", "internal": "yes"},
            "https://b-1.oss-cn-beijing-internal.aliyuncs.com/a%20b/%C3%BC%25",
        ),
        ({"region": "cn-beijing", "accelerate": "yes"}, "https://b-1.oss-accelerate.aliyuncs.com/a%20b/%C3%BC%25"),
        ({"endpoint": "oss-cn-beijing.aliyuncs.com"}, "https://b-1.oss-cn-beijing.aliyuncs.com/a%20b/%C3%BC%25"),
        (
            {"endpoint": "http://files.example.com", "cname": "yes", "region": "cn-beijing"},
            "http://files.example.com/a%20b/%C3%BC%25",
        ),
        ({"endpoint": "http://127.0.0.1:99", "signature": "v1"}, "http://127.0.0.1:99/b-1/a%20b/%C3%BC%25"),
    ],
)
def test_the_endpoint_decides_how_an_object_is_addressed(values: dict[str, str], url: str) -> None:
    assert OssObject(account(**values), "b-1", "a b/ü%").place[0] == url


@pytest.mark.parametrize(
    ("values", "region"),
    [
        ({"region": "cn-beijing"}, "cn-beijing"),
        ({"region": "oss-cn-beijing"}, "cn-beijing"),
        ({"endpoint": "https://oss-ap-southeast-1-internal.aliyuncs.com"}, "ap-southeast-1"),
        ({"endpoint": "https://oss-cn-beijing.aliyuncs.com", "region": "cn-hangzhou"}, "cn-hangzhou"),
    ],
)
def test_a_signature_names_the_region_of_the_profile_or_the_endpoint(values: dict[str, str], region: str) -> None:
    request = Request("PUT", "https://b-1.oss.test/k").prepare()

    account(**values).signer("b-1", "k")(request)

    assert f"/{region}/oss/aliyun_v4_request" in request.headers["Authorization"]
    assert request.headers["x-oss-security-token"] == "TOKENCANARY"
    assert "SECRETCANARY" not in repr(dict(request.headers))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "region"),
        ({"endpoint": "https://oss-accelerate.aliyuncs.com"}, "region"),
        ({"endpoint": "https://files.example.com", "cname": "yes"}, "region"),
        ({"region": "cn-beijing", "access_key": ""}, "access_key"),
        ({"region": "cn-beijing", "secret_key": ""}, "secret_key"),
        ({"region": "cn-beijing", "signature": "v2"}, "signature"),
        ({"region": "cn-beijing", "cname": "perhaps"}, "cname"),
        ({"region": "cn-beijing", "internal": "yes", "accelerate": "yes"}, "accelerate"),
        ({"region": "cn-beijing", "endpoint": "https://a.example.com", "internal": "yes"}, "internal"),
        ({"region": "cn-beijing", "endpoint": "ftp://a.example.com"}, "endpoint"),
        ({"region": "cn-beijing", "endpoint": "https://a.example.com/path"}, "endpoint"),
        ({"region": "cn-beijing", "endpoint": "https://u:SECRETCANARY@a.example.com"}, "endpoint"),
        ({"region": "cn-beijing", "endpoint": "https://a.example.com:99999"}, "endpoint"),
        ({"region": "cn-beijing", "endpoint": "http://127.0.0.1", "cname": "yes"}, "cname"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_with_the_field(values: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        account(**values)

    assert refused.value.field == f"profile test: {field}"
    assert "CANARY" not in str(refused.value)


def test_copies_stay_inside_one_region() -> None:
    near, far = account(region="cn-beijing"), account(region="cn-beijing", accelerate="yes")

    def copies(account: OssAccount, bucket: str) -> bool:
        return OssDestination(account, "b-1", "k", Options()).can_copy_from(OssSource(account, bucket, "other"))

    assert [copies(near, "b-1"), copies(near, "b-2"), copies(far, "b-1"), copies(far, "b-2")] == [
        True,
        True,
        True,
        False,
    ]
    assert not OssDestination(near, "b-1", "k", Options()).can_copy_from(OssSource(far, "b-1", "other"))


def test_a_bucket_that_cannot_be_is_refused_before_any_request() -> None:
    with pytest.raises(InvalidValue):
        account(region="cn-beijing").bucket("Not_A_Bucket")


def test_equal_profiles_share_an_account_and_only_they_may_copy() -> None:
    one = account(region="cn-beijing")

    assert account(region="cn-beijing") is one
    assert account(endpoint="https://oss-cn-beijing.aliyuncs.com").identity == one.identity
    assert account(region="cn-hangzhou").identity != one.identity
    assert account(region="cn-beijing", secret_key="other").identity != one.identity
    assert "CANARY" not in f"{one!r} {one.identity}"


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (UploadPlan(None, 100 << 10, 10_001), "part_count"),
        (UploadPlan(6 * GIB, 5 * GIB + 1, 2), "part_size"),
        (UploadPlan(200_000, (100 << 10) - 1, 2), "part_size"),
        (UploadPlan(50_001 * GIB, 5 * GIB, 10_000), "size"),
    ],
)
def test_what_oss_cannot_hold_is_refused_before_any_request(plan: UploadPlan, field: str) -> None:
    nowhere = account(endpoint="http://127.0.0.1:1", signature="v1")

    with pytest.raises(ObjectTooLarge) as refused:
        OssDestination(nowhere, "b-1", "k", Options()).create_upload(plan)

    assert refused.value.field == field


def skewed(theirs: datetime, status: int = 403, code: str = "RequestTimeTooSkewed") -> Reply:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return Reply(status, {"Date": format_datetime(theirs, usegmt=True)}, body, "http://b.oss.test/k")


@pytest.mark.parametrize("minutes", [-20, 20, 60 * 24 * 365])
def test_a_clock_that_is_off_is_corrected_once(minutes: int) -> None:
    profile = Profile("test", {**KEYS, "region": "cn-beijing"})
    off = OssAccount(profile, TransportConfig(), clock=lambda: NOW)
    theirs = NOW + timedelta(minutes=minutes)

    learned = [off.learn_clock(skewed(theirs)) for _ in range(2)]

    request = Request("PUT", "https://b-1.oss.test/k").prepare()
    off.signer("b-1", "k")(request)
    assert learned == [True, False], "if it is refused again, the clock was not the reason"
    assert request.headers["x-oss-date"] == theirs.strftime("%Y%m%dT%H%M%SZ")


@pytest.mark.parametrize(
    "reply",
    [
        skewed(NOW + timedelta(minutes=20), status=400),
        skewed(NOW + timedelta(minutes=20), code="AccessDenied"),
        skewed(NOW + timedelta(seconds=59)),
        Reply(403, {"Date": "yesterday"}, skewed(NOW).body, ""),
        Reply(403, {}, skewed(NOW).body, ""),
    ],
)
def test_other_answers_teach_no_time(reply: Reply) -> None:
    right = OssAccount(Profile("test", {**KEYS, "region": "cn-beijing"}), TransportConfig(), clock=lambda: NOW)

    assert not right.learn_clock(reply)
    assert right.clock_error == timedelta(0)
