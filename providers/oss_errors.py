"""From what OSS and its SDK say to our error tree; each mapped once, here.

Codes: https://www.alibabacloud.com/help/en/oss/support/error-codes-8/
What a server wrote is shown only after ``_scrub``, and the SDK's exceptions are not chained: the error about a wrong
signature repeats the signature and all that was signed.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from xml.etree.ElementTree import ParseError

from providers.errors import (
    ChecksumMismatch,
    CredentialExpired,
    DestinationExists,
    Forbidden,
    InvalidPart,
    InvalidRange,
    InvalidValue,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    ResponseParseError,
    ResponseStatusError,
    ServerFault,
    SourceChanged,
    Throttled,
    TransportError,
    UploadNotFound,
)
from providers.oss_sdk import exceptions as sdk
from providers.reply import BY_STORE_STATUS, Reply, retry_after_seconds

SKEWED = "RequestTimeTooSkewed"
BY_CODE: Mapping[str, type[ProviderError]] = {
    "AccessDenied": Forbidden,
    "InvalidAccessKeyId": Forbidden,
    "InvalidSecurityToken": Forbidden,
    "SignatureDoesNotMatch": Forbidden,
    "UserDisable": Forbidden,
    "WORMConfigurationLocked": Forbidden,
    "ExpiredToken": CredentialExpired,
    "SecurityTokenExpired": CredentialExpired,
    SKEWED: CredentialExpired,  # a correction of the clock did not help, see OssAccount.learn_clock
    "NoSuchBucket": NotFound,
    "NoSuchKey": NotFound,
    "SymlinkTargetNotExist": NotFound,
    "NoSuchUpload": UploadNotFound,
    "EntityTooSmall": InvalidPart,
    "InvalidPart": InvalidPart,
    "InvalidPartOrder": InvalidPart,
    "PartNotSequential": InvalidPart,
    "InvalidDigest": ChecksumMismatch,
    "FileAlreadyExists": DestinationExists,
    "ObjectAlreadyExists": DestinationExists,
    "FileImmutable": DestinationExists,  # a retention policy keeps what is there
    "InvalidRange": InvalidRange,
    "DownloadTrafficRateLimitExceeded": Throttled,
    "QpsLimitExceeded": Throttled,
    "ServerBusy": Throttled,
    "ServiceUnavailable": Throttled,
    "SlowDown": Throttled,
    "TotalQpsLimitExceeded": Throttled,
    "UploadTrafficRateLimitExceeded": Throttled,
    "InternalError": ServerFault,
    "OperationAborted": ServerFault,
    "RequestIsNotMultiPartContent": ResponseStatusError,
    "RequestTimeout": TransportError,
    "IncompleteBody": TransportError,
    "InvalidObjectState": ResponseStatusError,  # archived: 403, but not for want of a permission
    "NotImplemented": ResponseStatusError,
}
_HINTS: Mapping[str, str] = {
    "InvalidObjectState": "the object is archived; restore it first",
    SKEWED: "this machine's clock differs too much from the service's",
}
_URL_EXPIRED = re.compile(r"request has expired", re.IGNORECASE)
_SECRETS = re.compile(
    r"""\?[^\s"'<>]+                                    # a query
    | \b(?:x-oss-[a-z0-9-]+|signature|credential|ossaccesskeyid|[a-z-]*token|string-?to-?sign)\s*[=:]\s*\S+
    | \bOSS4-HMAC-SHA256\b.*                              # a string to sign, or the header made from it
    | \bOSS\ +\S+:\S+                                     # the header of version 1
    | \b(?:LTAI|STS\.)[A-Za-z0-9]{10,}\b
    | \b[0-9a-f]{64}\b""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SHOWN_CHARACTERS = 300

for _name in ("oss2.api", "oss2.auth", "oss2.http"):  # they log heads of requests, and errors as the server wrote them
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.WARNING)


@contextmanager
def oss_errors(what: str, *, precondition: type[ProviderError] = SourceChanged) -> Iterator[None]:
    """Map all that the SDK raises. ``what`` says what was asked; ``precondition`` is what a 412 means there."""
    try:
        yield
    except sdk.ServerError as exc:
        details = getattr(exc, "details", None) or {}
        raise oss_error(
            str(exc.code or ""),
            int(exc.status),
            what=what,
            message=details.get("Message") or "",
            access_key=details.get("OSSAccessKeyId") or "",
            headers=getattr(exc, "headers", None) or {},
            precondition=precondition,
        ) from None
    except sdk.RequestError as exc:
        raise TransportError(f"{what}: {type(exc.exception).__name__}") from None
    except sdk.InconsistentError:
        raise ChecksumMismatch(f"{what}: the checksums differ") from None
    except sdk.ClientError as exc:
        raise InvalidValue("oss request", what, _scrub(str(exc.body))) from None
    except sdk.OssError as exc:  # of the services around OSS, and of queries over objects
        raise ProviderUnavailable(f"{what}: {type(exc).__name__}: {_scrub(str(exc.message))}") from None
    except (ParseError, RuntimeError) as exc:  # RuntimeError: an element is missing
        raise ResponseParseError(f"{what}: the reply cannot be read: {_scrub(str(exc))}") from None


def oss_error(
    code: str,
    status: int,
    *,
    what: str,
    message: str = "",
    access_key: str = "",
    headers: Mapping[str, str] | None = None,
    precondition: type[ProviderError] = SourceChanged,
) -> ProviderError:
    """The error a code stands for; where the code says nothing, the status decides."""
    kind = BY_CODE.get(code) or BY_STORE_STATUS.get(status)
    url_expired = code == "AccessDenied" and _URL_EXPIRED.search(message)
    lent = code == "InvalidAccessKeyId" and access_key.startswith("STS.")  # the service forgets keys that have ended
    if url_expired or lent:
        kind = CredentialExpired
    if code == "PreconditionFailed" or (kind is None and status == 412):
        kind = precondition
    if kind is None:
        kind = ServerFault if status >= 500 else ResponseStatusError
    hint = _HINTS.get(code) or _scrub(message)
    text = f"{what}:{f' {code}' if code else ''} (status {status})" + (f": {hint}" if hint else "")
    return kind(text, status=status, retry_after_seconds=retry_after_seconds(headers or {}))


def reply_error(reply: Reply, *, what: str, precondition: type[ProviderError] = SourceChanged) -> ProviderError:
    """The same for a reply that did not pass through the SDK."""
    return oss_error(
        code_of(reply),
        reply.status,
        what=what,
        message=_element(_error_body(reply), "Message"),
        access_key=_element(_error_body(reply), "OSSAccessKeyId"),
        headers=reply.headers,
        precondition=precondition,
    )


def code_of(reply: Reply) -> str:
    """The code of an error; empty where the reply names none."""
    return _element(_error_body(reply), "Code")


def _error_body(reply: Reply) -> str:
    """A HEAD has no body: OSS puts it into a header then."""
    body = reply.body
    if not body and "x-oss-err" in reply.headers:
        try:
            body = base64.b64decode(reply.headers["x-oss-err"])
        except binascii.Error:
            return ""
    return body[: 64 << 10].decode("utf-8", errors="replace")


def _element(xml: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]{{1,1000}})</{name}>", xml)
    return unescape(found.group(1)).strip() if found else ""


def _scrub(message: str) -> str:
    text = _SECRETS.sub("(hidden)", message)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
