"""From what Azure Blob Storage and its SDK say to our error tree; each mapped once, here.

Codes: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes. A status decides where a code
is not in the table. What a server wrote is shown only after ``_scrub``, and its first line only: what follows
repeats the request, whose URL may hold a SAS. Exceptions of the SDK are not chained for the same reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape

from azure.core.exceptions import AzureError, HttpResponseError

from providers.errors import (
    ChecksumMismatch,
    CredentialExpired,
    DestinationExists,
    Forbidden,
    InvalidPart,
    InvalidRange,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    ResponseStatusError,
    ServerFault,
    SourceChanged,
    Throttled,
)
from providers.reply import BY_STORE_STATUS, Reply, retry_after_seconds

BY_CODE: Mapping[str, type[ProviderError]] = {
    "AccountIsDisabled": Forbidden,
    "AuthenticationFailed": Forbidden,
    "AuthorizationFailure": Forbidden,
    "AuthorizationPermissionMismatch": Forbidden,
    "AuthorizationProtocolMismatch": Forbidden,
    "AuthorizationResourceTypeMismatch": Forbidden,
    "AuthorizationServiceMismatch": Forbidden,
    "AuthorizationSourceIPMismatch": Forbidden,
    "InsufficientAccountPermissions": Forbidden,
    "InvalidAuthenticationInfo": Forbidden,
    "NoAuthenticationInformation": Forbidden,
    "PublicAccessNotPermitted": Forbidden,
    "UnauthorizedBlobOverwrite": Forbidden,
    "BlobNotFound": NotFound,
    "ContainerNotFound": NotFound,
    "ResourceNotFound": NotFound,
    "BlobAlreadyExists": DestinationExists,
    "InvalidBlockList": InvalidPart,
    "InvalidRange": InvalidRange,
    "InvalidPageRange": InvalidRange,
    "SourceConditionNotMet": SourceChanged,
    "Crc64Mismatch": ChecksumMismatch,
    "InvalidMd5": ChecksumMismatch,
    "Md5Mismatch": ChecksumMismatch,
    "AccountBeingCreated": ServerFault,
    "ContainerBeingDeleted": ServerFault,  # its name is free again after half a minute
    "InternalError": ServerFault,
    "OperationTimedOut": ServerFault,
    "ServerBusy": Throttled,
    "SnapshotOperationRateExceeded": Throttled,
    # These come with a status that means something else.
    "BlobArchived": ResponseStatusError,
    "BlobBeingRehydrated": ResponseStatusError,
    "LeaseIdMissing": ResponseStatusError,
    "LeaseIdMismatchWithBlobOperation": ResponseStatusError,
    "LeaseLost": ResponseStatusError,
}
_CONDITIONS = ("ConditionNotMet", "TargetConditionNotMet")
_TOO_MANY_BLOCKS = "blocks of uploads that ended wait at this blob: write or delete it, or wait a week"
_HINTS: Mapping[str, str] = {
    "AuthenticationFailed": "wrong account name or key, a wrong SAS, or a clock that is off",
    "AuthorizationFailure": "wrong account name or key, a SAS that does not allow it, or a firewall rule",
    "BlobArchived": "the blob is archived; rehydrate it first",
    "BlockCountExceedsLimit": _TOO_MANY_BLOCKS,
    "RequestEntityTooLargeBlockCountExceedsLimit": _TOO_MANY_BLOCKS,
    "BlobBeingRehydrated": "the blob is on its way out of the archive; try again in some hours",
    "CannotVerifyCopySource": "the service may not read the source, as behind a firewall; copy=relay does without",
    "ContainerNotFound": "there is no such container",
    "InvalidBlobOrBlock": "blocks of another tool, whose ids have another length, wait at this blob",
    "InvalidBlobType": "a page or append blob is there; it is not overwritten by a block blob: delete it first",
    "LeaseIdMissing": "somebody holds a lease on the blob",
    "UnauthorizedBlobOverwrite": "the SAS may create, but not replace a blob",
}
_OUT_OF_TIME = re.compile(
    r"not valid in the specified time frame|Signed expiry time .{0,80} (?:must be after|has to be)"
)
_SECRETS = re.compile(
    r"""\?[^\s"'<>]+                                      # a query
    | \b(?:sig|signature|accountkey|sharedaccesssignature|x-ms-[a-z-]+)\s*[=:]\s*\S+
    | \bSharedKey\b.* | \bBearer\b.*
    | [A-Za-z0-9+/]{43}=                                  # an HMAC-SHA256
    | [A-Za-z0-9+/]{80,}={0,2}                            # a key""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SHOWN_CHARACTERS = 300


@contextmanager
def azure_errors(what: str) -> Iterator[None]:
    """Map what the SDK raises while it signs. Requests pass through ``transport.py`` and end in ``reply_error``."""
    try:
        yield
    except HttpResponseError as exc:
        code = str(getattr(exc, "error_code", None) or "")
        raise azure_error(code, exc.status_code or 0, what=what, message=exc.message) from None
    except (AzureError, ValueError) as exc:
        raise ProviderUnavailable(f"{what}: {type(exc).__name__}") from None


def reply_error(reply: Reply, *, what: str, precondition: type[ProviderError] = SourceChanged) -> ProviderError:
    """What a failing reply stands for. ``precondition`` is what a condition of ours that was not met means there."""
    text = reply.body[: 64 << 10].decode("utf-8", errors="replace")
    code = reply.headers.get("x-ms-error-code") or _element(text, "Code")
    if reply.status == 403 and _OUT_OF_TIME.search(text):
        return CredentialExpired(f"{what}: {code} (status 403): the SAS is not valid at this time", status=403)
    return azure_error(
        code,
        reply.status,
        what=what,
        message=_element(text, "Message"),
        retry_after=retry_after_seconds(reply.headers),
        precondition=precondition,
    )


def azure_error(
    code: str,
    status: int,
    *,
    what: str,
    message: str = "",
    retry_after: float | None = None,
    precondition: type[ProviderError] = SourceChanged,
) -> ProviderError:
    """The error a code stands for; where the code says nothing, the status decides."""
    kind = BY_CODE.get(code) or BY_STORE_STATUS.get(status)
    if code in _CONDITIONS or (not code and status == 412):
        kind = precondition
    if kind is None:
        kind = ServerFault if status >= 500 else ResponseStatusError
    hint = _HINTS.get(code) or _scrub(message)
    text = f"{what}: {code} (status {status})" if code else f"{what}: status {status}"
    return kind(f"{text}: {hint}" if hint else text, status=status, retry_after_seconds=retry_after)


def _element(xml: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]{{1,1000}})</{name}>", xml)
    return unescape(found.group(1)).strip() if found else ""


def _scrub(message: str) -> str:
    text = _SECRETS.sub("(hidden)", message.strip().partition("\n")[0].strip())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
