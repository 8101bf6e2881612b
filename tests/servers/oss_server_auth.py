"""Who may ask the OSS stand-in: signatures of version 1 and 4, in the head or in the URL, verified from the wire.

Written from Alibaba's description of both, and from nothing that this project signs with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

ALLOWED_SKEW_SECONDS = 900
_SIGNED_IN_V1 = frozenset(
    {
        *("acl", "append", "bucketInfo", "callback", "callback-var", "delete", "location", "objectMeta", "partNumber"),
        *("position", "restore", "security-token", "stat", "symlink", "tagging", "uploadId", "uploads", "versionId"),
        *("response-cache-control", "response-content-disposition", "response-content-encoding"),
        *("response-content-language", "response-content-type", "response-expires", "x-oss-process"),
    }
)
_V4 = "OSS4-HMAC-SHA256"


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str = "", **details: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.details = status, code, message or code, details


@dataclass(frozen=True)
class Credential:
    """``token`` belongs to the keys when they were lent for a while, until ``expires`` (unix time)."""

    access_key: str
    secret_key: str
    token: str = ""
    expires: float = float("inf")


@dataclass(frozen=True)
class Asked:
    """One request as it came in. Names of ``headers`` are lowered, names and values of ``query`` are decoded."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Door:
    """Checks each request against the credentials the server knows."""

    def __init__(self, region: str, credentials: Sequence[Credential]) -> None:
        self._region = region
        self.credentials = {each.access_key: each for each in credentials}

    def check(self, asked: Asked, now: float) -> None:
        """Raises Refused."""
        said = asked.headers.get("authorization", "")
        if said.startswith("OSS "):
            self._v1_head(asked, said, now)
        elif said.startswith(_V4):
            self._v4_head(asked, said, now)
        elif "Signature" in asked.query:
            self._v1_url(asked, now)
        elif asked.query.get("x-oss-signature-version") == _V4:
            self._v4_url(asked, now)
        else:
            raise Refused(403, "AccessDenied", "Anonymous access is forbidden for this operation.")

    def _credential(self, access_key: str, token: str, now: float) -> Credential:
        found = self.credentials.get(access_key)
        if found is None or (found.token and not token):
            message = "The OSS Access Key Id you provided does not exist in our records."
            raise Refused(403, "InvalidAccessKeyId", message, OSSAccessKeyId=access_key)
        if found.token != token:
            raise Refused(403, "InvalidSecurityToken", "The security token you provided is invalid.")
        if now >= found.expires:
            raise Refused(403, "SecurityTokenExpired", "The security token you provided has expired.")
        return found

    # version 1

    def _v1_head(self, asked: Asked, said: str, now: float) -> None:
        access_key, _, signature = said[4:].partition(":")
        credential = self._credential(access_key, asked.headers.get("x-oss-security-token", ""), now)
        date = asked.headers.get("x-oss-date") or asked.headers.get("date", "")
        try:
            _check_skew(parsedate_to_datetime(date), now)
        except ValueError:
            raise Refused(403, "AccessDenied", "OSS authentication requires a valid Date.") from None
        _check(signature, _v1(asked, credential, date), _v1_text(asked, date))

    def _v1_url(self, asked: Asked, now: float) -> None:
        query = asked.query
        credential = self._credential(query.get("OSSAccessKeyId", ""), query.get("security-token", ""), now)
        expires = query.get("Expires", "")
        _check(query["Signature"], _v1(asked, credential, expires), _v1_text(asked, expires))
        if now > int(expires):
            raise Refused(403, "AccessDenied", "Request has expired.", Expires=expires)

    # version 4

    def _v4_head(self, asked: Asked, said: str, now: float) -> None:
        told = dict(re.findall(r"(\w+)=([^,\s]*)", said))
        timestamp = asked.headers.get("x-oss-date", "")
        _check_skew(_instant(timestamp), now)
        if "x-oss-content-sha256" not in asked.headers:
            raise Refused(400, "InvalidArgument", "x-oss-content-sha256 is missing.")
        token = asked.headers.get("x-oss-security-token", "")
        further = tuple(filter(None, told.get("AdditionalHeaders", "").split(";")))
        self._v4(asked, told.get("Credential", ""), told.get("Signature", ""), timestamp, further, token, now)

    def _v4_url(self, asked: Asked, now: float) -> None:
        query = asked.query
        timestamp = query.get("x-oss-date", "")
        further = tuple(filter(None, query.get("x-oss-additional-headers", "").split(";")))
        token = query.get("x-oss-security-token", "")
        self._v4(
            asked, query.get("x-oss-credential", ""), query.get("x-oss-signature", ""), timestamp, further, token, now
        )
        if now > _instant(timestamp).timestamp() + int(query.get("x-oss-expires", "0")):
            raise Refused(403, "AccessDenied", "Request has expired.")

    def _v4(
        self,
        asked: Asked,
        claimed: str,
        signature: str,
        timestamp: str,
        further: tuple[str, ...],
        token: str,
        now: float,
    ) -> None:
        access_key, _, scope = claimed.partition("/")
        credential = self._credential(access_key, token, now)
        if scope != f"{timestamp[:8]}/{self._region}/oss/aliyun_v4_request":
            raise Refused(400, "InvalidArgument", f"Invalid scope in Authorization: {scope}")
        text = f"{_V4}\n{timestamp}\n{scope}\n{hashlib.sha256(_v4_request(asked, further)).hexdigest()}"
        key = f"aliyun_v4{credential.secret_key}".encode()
        for step in scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        _check(signature, hmac.digest(key, text.encode(), "sha256").hex(), text)


def _check(theirs: str, ours: str, text: str | bytes) -> None:
    if not hmac.compare_digest(theirs.encode(), ours.encode()):
        shown = text if isinstance(text, str) else text.decode(errors="replace")
        message = "The request signature we calculated does not match the signature you provided."
        raise Refused(403, "SignatureDoesNotMatch", message, SignatureProvided=theirs, StringToSign=shown)


def _check_skew(said: datetime, now: float) -> None:
    if abs(said.timestamp() - now) > ALLOWED_SKEW_SECONDS:
        message = "The difference between the request time and the current time is too large."
        raise Refused(403, "RequestTimeTooSkewed", message, MaxAllowedSkewMilliseconds="900000")


def _instant(timestamp: str) -> datetime:
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused(403, "AccessDenied", "x-oss-date is no date.") from None


def _v1(asked: Asked, credential: Credential, date: str) -> str:
    return base64.b64encode(hmac.digest(credential.secret_key.encode(), _v1_text(asked, date), "sha1")).decode()


def _v1_text(asked: Asked, date: str) -> bytes:
    """The resource is bucket and key in every style of address, and not escaped."""
    subresources = sorted((n, v) for n, v in asked.query.items() if n in _SIGNED_IN_V1)
    query = "&".join(f"{n}={v}" if v else n for n, v in subresources)
    resource = f"/{asked.bucket}/{asked.key}" + (f"?{query}" if query else "")
    first = (asked.method, asked.headers.get("content-md5", ""), asked.headers.get("content-type", ""), date)
    lines = [line.encode("latin-1") for line in first]
    return b"\n".join([*lines, _canonical(asked.headers, ()) + resource.encode()])


def _v4_request(asked: Asked, further: tuple[str, ...]) -> bytes:
    pairs = sorted((_escaped(n), _escaped(v)) for n, v in asked.query.items() if n != "x-oss-signature")
    return b"\n".join(
        [
            asked.method.encode(),
            quote(f"/{asked.bucket}/{asked.key}", safe="/-_.~").encode(),
            "&".join(f"{n}={v}" if v else n for n, v in pairs).encode(),
            _canonical(asked.headers, ("content-type", "content-md5", *further)),
            ";".join(sorted(further)).encode(),
            asked.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD").encode(),
        ]
    )


def _canonical(headers: Mapping[str, str], further: tuple[str, ...]) -> bytes:
    chosen = sorted((n, v.strip()) for n, v in headers.items() if n.startswith("x-oss-") or n in further)
    return b"".join(f"{n}:{v}\n".encode("latin-1") for n, v in chosen)


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")
