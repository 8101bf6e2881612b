"""The error tree of everything that talks to storage.

ProviderError
├── TransportError            106  the network failed: connect, TLS, reset, time-out, cut body (retried)
│   ├── Stalled               106  bytes stopped flowing, or flow too slowly (retried)
│   └── CertificateRefused    106  the other side's certificate is not to be trusted: trying again does not help
├── ResponseStatusError       109  an answer with a status nobody can act on (an unknown 4xx is final)
│   ├── Throttled             109  408, 425, 429, 503 SlowDown (retried, honours Retry-After)
│   ├── ServerFault           109  5xx (retried)
│   ├── Forbidden             109  the credential is known and may not do this
│   ├── NotFound              109  there is no such object or bucket
│   └── CompletionUnknown     109  the reply to a completion was lost, and nothing proves the object
├── CredentialExpired         117  a URL, token or key ran out: renew, then wait
├── SignerUnavailable         117  who signs presigned requests does not answer: waits until it does
├── SignerRefused             117  it answered for another part, offset or size than was asked for
├── ResponseParseError        113  an answer that cannot be read
├── InvalidRange              114  the answer is not the range that was asked for
│   ├── SourceChanged         114  the source is no longer the object that was pinned
│   ├── OffsetMoved           114  a server goes on elsewhere than after what was sent (followed, or retried)
│   └── OffsetStuck           114  it does so again and again: it would never have the whole
├── LengthUnknown             110  no usable length, and the way needs one
├── ChecksumMismatch          116  bytes arrived, but not the right ones
│   └── PartCorrupted         116  one part was damaged on its way (retried)
├── UploadNotFound            109  the multipart upload is gone
├── InvalidPart               109  the store does not accept a receipt at completion
├── DestinationExists         105  something is already there, and `on_exists` forbids to replace it
├── IoFailed                  105  local open, read, write or rename failed
│   ├── SourceMissing         115  the local source is not there
│   ├── LocalBusy             105  too many open files, no memory, a busy device (retried)
│   ├── DiskFull              121  no space left (waits, bytes kept)
│   └── LocalFileRemoved      122  a local file vanished or was replaced in mid-transfer
├── InvalidValue              102  a value was refused: names the field, the value, what is allowed
│   ├── UnknownScheme         102  no provider serves this URL
│   └── ObjectTooLarge        114  the object cannot be cut into parts the destination accepts
├── ProviderUnavailable       119  the client could not be built: an extra or a certificate is missing
└── StopRequested             120  not a failure: the transfer was paused, cancelled or drained in mid-part

Callers branch on ``code`` and ``retryable``, never on text. Text never holds a query string or a secret.
"""

from __future__ import annotations

from typing import ClassVar


class ProviderError(Exception):
    """Base of every provider failure. ``code`` is stored and shown to users: add codes, never rename one."""

    code: ClassVar[str] = "provider_error"
    number: ClassVar[int] = -1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.status = status


class TransportError(ProviderError):
    """DNS, connect, TLS, reset, time-out, or a body that ended early."""

    code = "transport"
    number = 106
    retryable = True
    sent: bool = True
    """False: no connection was made, so nothing of the request can have arrived."""


class Stalled(TransportError):
    """No bytes, or fewer than the minimum rate, for too long."""

    code = "stalled"


class CertificateRefused(TransportError):
    """Nobody trusted signed it, it is for another name, or it ran out. Nothing was sent."""

    code = "certificate_refused"
    retryable = False
    sent = False


class ResponseStatusError(ProviderError):
    """A status that is neither success nor anything more precise below."""

    code = "response_status"
    number = 109


class Throttled(ResponseStatusError):
    """The server asks for fewer or later requests."""

    code = "throttled"
    retryable = True


class ServerFault(ResponseStatusError):
    """The server failed: 5xx, or an error inside a 200."""

    code = "server_fault"
    retryable = True


class Forbidden(ResponseStatusError):
    """401 or 403: wrong credential, or no permission."""

    code = "forbidden"


class NotFound(ResponseStatusError):
    """404 or 410: the object, bucket or page is not there."""

    code = "not_found"


class CompletionUnknown(ResponseStatusError):
    """A completion was sent, its reply was lost, and the store cannot be asked what became of it."""

    code = "completion_unknown"


class CredentialExpired(ProviderError):
    """A presigned URL, session token or key is past its lifetime."""

    code = "credential_expired"
    number = 117


class SignerUnavailable(ProviderError):
    """The signer of a presigned plan cannot be reached, or is not willing."""

    code = "signer_unavailable"
    number = 117


class SignerRefused(ProviderError):
    """The signer's reply is malformed, or changes what is fixed: number, offset, size."""

    code = "signer_reply_refused"
    number = 117


class ResponseParseError(ProviderError):
    """The answer is malformed: bad XML or JSON, a missing ETag or upload id."""

    code = "response_parse"
    number = 113


class InvalidRange(ProviderError):
    """Range, size and offset contradict each other."""

    code = "invalid_range"
    number = 114


class SourceChanged(InvalidRange):
    """The source no longer matches the validator that was pinned in ``prepare``."""

    code = "source_changed"


class OffsetMoved(InvalidRange):
    """A server that takes bytes in order holds fewer, or others, than were sent: go on at ``offset``."""

    code = "offset_moved"
    retryable = True

    def __init__(self, message: str, *, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class OffsetStuck(InvalidRange):
    """A server that takes bytes in order asks for the same ones again and again."""

    code = "offset_stuck"


class LengthUnknown(ProviderError):
    """The server names no usable length."""

    code = "length_unknown"
    number = 110


class ChecksumMismatch(ProviderError):
    """The bytes that arrived, or that the store holds, are not the right ones."""

    code = "checksum_mismatch"
    number = 116


class PartCorrupted(ChecksumMismatch):
    """The store received other bytes for a part than were sent: sent again, it will be right."""

    code = "part_corrupted"
    retryable = True


class UploadNotFound(ProviderError):
    """The store does not know this multipart upload: aborted, completed or expired."""

    code = "upload_not_found"
    number = 109


class InvalidPart(ProviderError):
    """The store refuses a part named at completion."""

    code = "invalid_part"
    number = 109


class DestinationExists(ProviderError):
    """An object is already there and ``on_exists`` is ``fail``."""

    code = "destination_exists"
    number = 105


class IoFailed(ProviderError):
    """A local file operation failed."""

    code = "io"
    number = 105


class SourceMissing(IoFailed):
    """The local source does not exist."""

    code = "file_not_found"
    number = 115


class LocalBusy(IoFailed):
    """The machine is short of something that comes back: descriptors, memory, a lock."""

    code = "local_busy"
    retryable = True


class DiskFull(IoFailed):
    """ENOSPC or EDQUOT."""

    code = "disk_full"
    number = 121


class LocalFileRemoved(IoFailed):
    """A local file vanished or was replaced while the transfer ran."""

    code = "local_file_removed"
    number = 122


class InvalidValue(ProviderError):
    """A value was refused before any I/O. ``field``, ``value`` and ``allowed`` say which and why."""

    code = "invalid_value"
    number = 102

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is refused; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed

    def __reduce__(self) -> tuple[type[InvalidValue], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.allowed)


class UnknownScheme(InvalidValue):
    """No provider serves this URL in this role."""

    code = "unknown_scheme"


class ObjectTooLarge(InvalidValue):
    """The object does not fit the destination's part limits."""

    code = "object_too_large"
    number = 114


class ProviderUnavailable(ProviderError):
    """The provider's client could not be built here: an optional extra, a certificate or a profile is missing."""

    code = "http_client_build_failed"
    number = 119


class StopRequested(ProviderError):
    """Raised inside a part when the transfer is paused or cancelled, the lease is lost, or the worker drains."""

    code = "stopped"
    number = 120
