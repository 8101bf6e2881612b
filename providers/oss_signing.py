"""Signatures of Aliyun OSS, version 4 and version 1, in the head of a request.

Ours and not the SDK's: that one reads the machine's clock inside, so a clock that is off cannot be made up for, and
it logs what it signs. Tests hold both to the same signatures.
https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from requests import PreparedRequest

_PAYLOAD = "UNSIGNED-PAYLOAD"
"""The bytes are read once, and checked by a checksum instead."""
_ALGORITHM = "OSS4-HMAC-SHA256"
_SUBRESOURCES = frozenset({"uploads", "uploadId", "partNumber", "versionId", "acl", "location", "append", "position"})
"""Of all there are, those that this package may ask for: version 1 signs no other parameter."""


@dataclass(frozen=True, slots=True)
class Keys:
    access_key: str
    secret_key: str = field(repr=False)
    security_token: str = field(default="", repr=False)


def sign_v4(request: PreparedRequest, bucket: str, key: str, *, keys: Keys, region: str, now: datetime) -> None:
    """Set x-oss-date, the token and Authorization. ``now`` is read once, so that both dates fit each other."""
    timestamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    day = timestamp[:8]
    scope = f"{day}/{region}/oss/aliyun_v4_request"
    _set_token(request, keys)
    request.headers["x-oss-date"] = timestamp
    request.headers["x-oss-content-sha256"] = _PAYLOAD
    canonical = "\n".join(
        (
            str(request.method),
            _encoded(f"/{bucket}/{key}", safe="/"),
            "&".join(_pair(*each) for each in sorted((_encoded(n), _encoded(v)) for n, v in _query(request))),
            _signed_lines(request.headers, ("content-type", "content-md5")),
            "",  # no additional headers
            _PAYLOAD,
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = _hmac(
        signing_key(keys.secret_key, day, region), f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}", "sha256"
    )
    request.headers["Authorization"] = f"{_ALGORITHM} Credential={keys.access_key}/{scope}, Signature={signature.hex()}"


@lru_cache(maxsize=64)
def signing_key(secret_key: str, day: str, region: str) -> bytes:
    """Derived once for each credential and UTC day."""
    derived = f"aliyun_v4{secret_key}".encode()
    for step in (day, region, "oss", "aliyun_v4_request"):
        derived = _hmac(derived, step, "sha256")
    return derived


def sign_v1(request: PreparedRequest, bucket: str, key: str, *, keys: Keys, now: datetime) -> None:
    """Set Date, the token and Authorization."""
    headers = request.headers
    _set_token(request, keys)
    headers["Date"] = format_datetime(now.astimezone(UTC), usegmt=True)
    asked = "&".join(_pair(*each) for each in sorted(_query(request)) if each[0] in _SUBRESOURCES)
    text = "\n".join(
        (
            str(request.method),
            headers.get("Content-MD5", ""),
            headers.get("Content-Type", ""),
            headers["Date"],
            f"{_signed_lines(headers)}/{bucket}/{key}" + (f"?{asked}" if asked else ""),
        )
    )
    signature = _hmac(keys.secret_key.encode(), text, "sha1")
    headers["Authorization"] = f"OSS {keys.access_key}:{base64.b64encode(signature).decode()}"


def query_of(params: Mapping[str, str]) -> str:
    """With its question mark, or empty. A parameter without a value has no ``=``, as it is signed."""
    pairs = "&".join(_pair(_encoded(name), _encoded(value)) for name, value in params.items())
    return f"?{pairs}" if pairs else ""


def _set_token(request: PreparedRequest, keys: Keys) -> None:
    if keys.security_token:
        request.headers["x-oss-security-token"] = keys.security_token


def _query(request: PreparedRequest) -> Iterable[tuple[str, str]]:
    for pair in filter(None, urlsplit(str(request.url)).query.split("&")):
        name, _, value = pair.partition("=")
        yield unquote(name), unquote(value)


def _signed_lines(headers: Mapping[str, str], further: tuple[str, ...] = ()) -> str:
    """``name:value`` for each header that has to be signed, by name, each with its line end."""
    chosen = ((name.lower(), str(value).strip()) for name, value in headers.items())
    return "".join(
        f"{name}:{value}\n" for name, value in sorted(chosen) if name.startswith("x-oss-") or name in further
    )


def _pair(name: str, value: str) -> str:
    return f"{name}={value}" if value else name


def _encoded(text: str, safe: str = "") -> str:
    return quote(text, safe=f"-_.~{safe}")


def _hmac(key: bytes, text: str, algorithm: Literal["sha1", "sha256"]) -> bytes:
    return hmac.digest(key, text.encode(), algorithm)
