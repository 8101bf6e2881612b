"""From what an S3 service and botocore say to our error tree; each mapped once, here.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. Compatible stores use the same names.
What a server or botocore wrote is shown only after ``_scrub``, and such exceptions are not chained: an error body
may repeat the request's signature, and botocore's texts name URLs with their query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from providers.errors import (
    ChecksumMismatch,
    CredentialExpired,
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
from providers.reply import BY_STORE_STATUS, retry_after_seconds

BY_CODE: Mapping[str, type[ProviderError]] = {
    "AccessDenied": Forbidden,
    "AccountProblem": Forbidden,
    "AllAccessDisabled": Forbidden,
    "AuthorizationHeaderMalformed": Forbidden,
    "InvalidAccessKeyId": Forbidden,
    "InvalidSecurity": Forbidden,
    "InvalidToken": Forbidden,
    "NotSignedUp": Forbidden,
    "SignatureDoesNotMatch": Forbidden,
    "UnauthorizedAccess": Forbidden,
    "ExpiredToken": CredentialExpired,
    "RequestExpired": CredentialExpired,
    "RequestTimeTooSkewed": CredentialExpired,  # to S3 the signature is out of its time; one worker's clock may be off
    "TokenRefreshRequired": CredentialExpired,
    "NoSuchBucket": NotFound,
    "NoSuchKey": NotFound,
    "NoSuchVersion": NotFound,
    "MethodNotAllowed": ResponseStatusError,
    "NoSuchUpload": UploadNotFound,
    "InvalidPart": InvalidPart,
    "InvalidPartOrder": InvalidPart,
    "EntityTooSmall": InvalidPart,
    "EntityTooLarge": ResponseStatusError,
    "BadDigest": ChecksumMismatch,
    "InvalidDigest": ChecksumMismatch,
    "XAmzContentChecksumMismatch": ChecksumMismatch,
    "XAmzContentSHA256Mismatch": ChecksumMismatch,
    "InvalidRange": InvalidRange,
    "Busy": Throttled,
    "BandwidthLimitExceeded": Throttled,
    "RequestLimitExceeded": Throttled,
    "ServiceUnavailable": Throttled,
    "SlowDown": Throttled,
    "SlowDownRead": Throttled,
    "SlowDownWrite": Throttled,
    "Throttling": Throttled,
    "ThrottlingException": Throttled,
    "TooManyRequests": Throttled,
    "TooManyRequestsException": Throttled,
    "InternalError": ServerFault,
    "InternalFailure": ServerFault,
    "NotImplemented": ResponseStatusError,
    "ConditionalRequestConflict": ServerFault,  # another request won a race; the same one may succeed now
    "OperationAborted": ServerFault,
    "TemporaryRedirect": ServerFault,  # a new bucket whose name is still spreading
    "IncompleteBody": TransportError,
    "RequestTimeout": TransportError,
    "RequestTimeoutException": TransportError,
    "InvalidObjectState": ResponseStatusError,  # archived: 403, but not for want of a permission
    "PermanentRedirect": ResponseStatusError,
}
_HINTS: Mapping[str, str] = {
    "AuthorizationHeaderMalformed": "the profile's region is probably not the bucket's",
    "InvalidObjectState": "the object is archived; restore it first",
    "PermanentRedirect": "the bucket lives in another region or at another endpoint; set the profile's",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the service's",
}
_NETWORK = (sdk.ConnectionError, sdk.HTTPClientError, sdk.IncompleteReadError)
_RENEWABLE = (
    sdk.CredentialRetrievalError,
    sdk.LoginError,
    sdk.MetadataRetrievalError,
    sdk.NoAuthTokenError,
    sdk.RefreshWithMFAUnsupportedError,
    sdk.SSOError,
    sdk.TokenRetrievalError,
)
_BAD_INPUT = (
    sdk.InvalidDNSNameError,
    sdk.InvalidHostLabelError,
    sdk.ParamValidationError,
    sdk.UnsupportedS3AccesspointConfigurationError,
    sdk.UnsupportedS3ArnError,
    sdk.ValidationError,
)
_SECRETS = re.compile(
    r"""\?[^\s"'<>]+                                    # a query
    | \b(?:x-amz-[a-z-]+|signature|credential|awsaccesskeyid|[a-z-]*token|string-?to-?sign)\s*[=:]\s*\S+
    | \bAWS4-HMAC-SHA256\b.*                              # a string to sign, or the header made from it
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}\b
    | \b[0-9a-f]{64}\b""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SHOWN_CHARACTERS = 300


@contextmanager
def s3_errors(what: str, *, precondition: type[ProviderError] = SourceChanged) -> Iterator[None]:
    """Map all that botocore raises. ``what`` says what was asked; ``precondition`` is what a 412 means there."""
    try:
        yield
    except sdk.ClientError as exc:
        error, meta = exc.response.get("Error", {}), exc.response.get("ResponseMetadata", {})
        raise s3_error(
            str(error.get("Code", "")),
            int(meta.get("HTTPStatusCode", 0)),
            what=what,
            message=str(error.get("Message", "")),
            headers=meta.get("HTTPHeaders", {}),
            precondition=precondition,
        ) from None
    except _NETWORK as exc:
        raise TransportError(f"{what}: {_innermost(exc)}") from None
    except (sdk.ChecksumError, sdk.FlexibleChecksumError) as exc:
        raise ChecksumMismatch(f"{what}: {type(exc).__name__}") from None
    except ResponseParserError:
        raise ResponseParseError(f"{what}: the reply is no valid XML") from None
    except _RENEWABLE as exc:
        raise CredentialExpired(f"{what}: the credential cannot be renewed: {_scrub(str(exc))}") from None
    except _BAD_INPUT as exc:
        raise InvalidValue("s3 request", what, _scrub(str(exc))) from None
    except (sdk.BotoCoreError, sdk.UndefinedModelAttributeError) as exc:
        raise ProviderUnavailable(f"{what}: {_scrub(str(exc))}") from None


def s3_error(
    code: str,
    status: int,
    *,
    what: str,
    message: str = "",
    headers: Mapping[str, str] | None = None,
    precondition: type[ProviderError] = SourceChanged,
) -> ProviderError:
    """The error a code stands for; where the code says nothing (a HEAD has none), the status decides."""
    kind = BY_CODE.get(code) or BY_STORE_STATUS.get(status)
    if code == "PreconditionFailed" or (kind is None and status == 412):
        kind = precondition
    if kind is None:
        kind = ServerFault if status >= 500 else ResponseStatusError
    said = "" if code.isdigit() or not code else f" {code}"
    hint = _HINTS.get(code) or ("" if code.isdigit() else _scrub(message))
    text = f"{what}:{said} (status {status})" + (f": {hint}" if hint else "")
    return kind(text, status=status, retry_after_seconds=retry_after_seconds(_titled(headers or {})))


def reply_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    what: str,
    precondition: type[ProviderError] = SourceChanged,
) -> ProviderError:
    """The same for a reply that did not pass through botocore: its XML body holds ``Code`` and ``Message``."""
    text = body[: 64 << 10].decode("utf-8", errors="replace")
    return s3_error(
        _element(text, "Code"),
        status,
        what=what,
        message=_element(text, "Message"),
        headers=headers,
        precondition=precondition,
    )


def _element(xml: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]{{1,1000}})</{name}>", xml)
    return unescape(found.group(1)).strip() if found else ""


def _titled(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.title(): value for name, value in headers.items()}  # botocore lowers the names


def _scrub(message: str) -> str:
    text = _SECRETS.sub("(hidden)", message)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _innermost(exc: sdk.BotoCoreError) -> str:
    """A phrase for a network fault that cannot hold a URL: class names, and the system's words for its own errors."""
    inner = exc.kwargs.get("error") if isinstance(exc.kwargs, dict) else None
    while isinstance(inner, BaseException) and (deeper := getattr(inner, "reason", None) or inner.__cause__):
        inner = deeper
    words = inner.strerror if isinstance(inner, OSError) and inner.errno else None
    name = type(inner).__name__ if isinstance(inner, BaseException) else ""
    return ": ".join(each for each in (type(exc).__name__, name, words) if each)
