"""One OSS endpoint reached with one credential: addresses, signatures, the clock, and the SDK on our transport."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest

from providers.accounts import Accounts
from providers.base import Profile
from providers.errors import InvalidValue
from providers.oss_errors import SKEWED, code_of, oss_errors
from providers.oss_sdk import oss2
from providers.oss_signing import Keys, query_of, sign_v1, sign_v4
from providers.reply import Reply
from providers.schemes import redact
from providers.transport import Sign, Transport, TransportConfig, transport_for

_SILENT_SECONDS = 300.0
"""A service may say nothing while it joins 10,000 parts or copies 5 GiB."""
_REPLY_BYTES = 16 << 20
"""A page of 1000 keys of 1 KiB, each character escaped, is shorter."""
_CLOCK_SLACK = timedelta(minutes=1)
"""OSS allows 15 minutes. A clock that is right to within one is not what a request was refused for."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_SIGNATURES = ("v4", "v1")
_REGION_OF_HOST = re.compile(r"(?:s3\.)?oss-([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com")

Clock = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class OssAccount:
    """Thread-safe. ``identity`` is equal for accounts that reach the same objects with the same credential."""

    def __init__(self, profile: Profile, config: TransportConfig, *, clock: Clock = _utc_now) -> None:
        self.is_cname = _flag(profile, "cname")
        self.endpoint = _endpoint(profile)
        self.identity = _identity(profile, self.endpoint)
        self.spans_regions = urlsplit(self.endpoint).netloc.startswith("oss-accelerate")
        self._signature = profile.get("signature") or "v4"
        if self._signature not in _SIGNATURES:
            raise InvalidValue(f"profile {profile.name}: signature", self._signature, ", ".join(_SIGNATURES))
        self._keys = _keys(profile)
        self._region = _region(profile, self.endpoint) if self._signature == "v4" else ""
        self._clock = clock
        self.clock_error = timedelta(0)
        """How far the service's clock is ahead of ours, once a refused request has told it."""
        self.transport: Transport = transport_for(config)
        patience = max(config.read_seconds, _SILENT_SECONDS)
        self.patient_transport: Transport = transport_for(replace(config, read_seconds=patience))
        """For the calls that the service answers late."""

    def __repr__(self) -> str:
        return f"OssAccount({redact(self.endpoint)})"

    def bucket(self, name: str, *, patient: bool = False) -> Any:
        """The SDK's client of one bucket: it makes and reads the small calls, on our transport. Raises InvalidValue."""
        session = _Session(self, name, self.patient_transport if patient else self.transport)
        with oss_errors(f"oss://{name}"):
            return oss2.Bucket(session, self.endpoint, name, is_cname=self.is_cname, session=session, enable_crc=False)

    def signer(self, bucket: str, key: str) -> Sign:
        """Signs in the head, not in the URL: a URL that shows up in a log or an error is no secret then."""

        def sign(request: PreparedRequest) -> None:
            now = self._clock() + self.clock_error
            if self._signature == "v1":
                sign_v1(request, bucket, key, keys=self._keys, now=now)
            else:
                sign_v4(request, bucket, key, keys=self._keys, region=self._region, now=now)

        return sign

    def learn_clock(self, reply: Reply) -> bool:
        """Whether ``reply`` refuses a request for our clock, and says by how much: signed again it will be accepted."""
        if reply.status != 403 or code_of(reply) != SKEWED:
            return False
        try:
            theirs = parsedate_to_datetime(reply.headers.get("Date", ""))
        except ValueError:
            return False
        error = theirs.astimezone(UTC) - self._clock()
        if abs(error - self.clock_error) < _CLOCK_SLACK:
            return False
        self.clock_error = error
        return True


class _Session:
    """What the SDK takes for its session and for its signer. It sends through our transport, and signs there."""

    def __init__(self, account: OssAccount, bucket: str, transport: Transport) -> None:
        self._account = account
        self._bucket = bucket
        self._transport = transport

    def auth_version(self) -> str:
        return "v4"  # to the SDK it only means: check no names of objects, those are any text here

    def _sign_request(self, request: Any, bucket: str, key: str) -> None:
        request.sign = self._account.signer(bucket, key)

    def do_request(self, request: Any, timeout: object) -> _Answer:
        reply = self._ask(request)
        if self._account.learn_clock(reply):
            reply = self._ask(request)
        return _Answer(reply)

    def _ask(self, request: Any) -> Reply:
        headers = {name: value for name, value in request.headers.items() if value and name.lower() != "user-agent"}
        url = request.url + query_of(request.params)
        return self._transport.request(
            request.method, url, headers=headers, data=request.data or None, sign=request.sign, max_bytes=_REPLY_BYTES
        )


class _Answer:
    """A reply as the SDK wants to read it."""

    def __init__(self, reply: Reply) -> None:
        self.status, self.headers, self.body = reply.status, reply.headers, reply.body
        self.request_id = reply.headers.get("x-oss-request-id", "")
        self._rest = reply.body

    def read(self, count: int | None = None) -> bytes:
        taken = self._rest if count is None else self._rest[:count]
        self._rest = self._rest[len(taken) :]
        return taken


account_for = Accounts(OssAccount).get
"""The process's account for a profile, built when it is first used. Raises InvalidValue."""


def _identity(profile: Profile, endpoint: str) -> str:
    """A hash, since it is kept and compared, and holds the secret."""
    names = ("access_key", "secret_key", "security_token", "cname")
    return hashlib.sha256("\0".join([endpoint, *(profile.get(name) or "" for name in names)]).encode()).hexdigest()


def _keys(profile: Profile) -> Keys:
    access_key, secret_key = profile.get("access_key"), profile.get("secret_key")
    for name, value in (("access_key", access_key), ("secret_key", secret_key)):
        if not value:
            raise InvalidValue(f"profile {profile.name}: {name}", "", "the access key and the secret key of a RAM user")
    return Keys(str(access_key).strip(), str(secret_key).strip(), (profile.get("security_token") or "").strip())


def _endpoint(profile: Profile) -> str:
    """A URL. Without ``endpoint`` it is made of the region, and of the network it is reached by."""
    told, region = profile.get("endpoint"), profile.get("region")
    internal, accelerate = _flag(profile, "internal"), _flag(profile, "accelerate")
    if internal and accelerate:
        raise InvalidValue(f"profile {profile.name}: accelerate", "yes", "no, where internal is yes")
    if told:
        if internal or accelerate:
            name = "internal" if internal else "accelerate"
            raise InvalidValue(f"profile {profile.name}: {name}", "yes", "no, where an endpoint is given")
        return _checked_endpoint(profile, told)
    if accelerate:
        return "https://oss-accelerate.aliyuncs.com"
    if not region:
        raise InvalidValue(f"profile {profile.name}: region", "", "a region such as cn-hangzhou, or an endpoint")
    return f"https://oss-{region}{'-internal' if internal else ''}.aliyuncs.com"


def _checked_endpoint(profile: Profile, told: str) -> str:
    url = told if "://" in told else f"https://{told}"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        fits = False
    if not fits or parts.path.strip("/") or parts.username or parts.query:
        raise InvalidValue(
            f"profile {profile.name}: endpoint", redact(told), "a host, or an http:// or https:// URL of one"
        )
    if _is_address(parts.hostname or "") and _flag(profile, "cname"):
        raise InvalidValue(f"profile {profile.name}: cname", "yes", "no, where the endpoint is an address")
    return f"{parts.scheme}://{parts.netloc}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _region(profile: Profile, endpoint: str) -> str:
    """What a signature of version 4 names. Hosts of the service tell it, but for the accelerated one."""
    found = _REGION_OF_HOST.fullmatch(urlsplit(endpoint).hostname or "")
    region = profile.get("region") or (found[1] if found and not found[1].startswith("accelerate") else "")
    if not region:
        raise InvalidValue(f"profile {profile.name}: region", "", "a region such as cn-hangzhou, or signature = v1")
    return region.removeprefix("oss-")


def _flag(profile: Profile, name: str) -> bool:
    text = (profile.get(name) or "").lower()
    if text not in (*_TRUE, *_FALSE):
        raise InvalidValue(f"profile {profile.name}: {name}", text, "yes or no")
    return text in _TRUE
