"""The roles a storage plays (Source, Destination, optional skills) and the frozen values they exchange.

Objects that play a role are shared by the threads of one process: every method must be safe to call from
several threads at once, and every method but ``create_upload`` must be safe to repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol, runtime_checkable

UploadId = NewType("UploadId", str)
"""A provider's name for an open multipart upload; opaque above the provider, at most 1 KiB, holds no secret."""

MIB = 1 << 20
BUFFER_BYTES = MIB
"""Bytes that pass through memory at a time. 256 KiB to 4 MiB measure the same; below that CPU per byte grows."""

OnExists = Literal["fail", "skip", "overwrite"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open ``[start, stop)``, in bytes. Inclusive only on the wire."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a byte range: [{self.start}, {self.stop})")

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start

    @property
    def header(self) -> str:
        """The value of a ``Range`` header. An empty range has none: ask before."""
        return f"bytes={self.start}-{self.stop - 1}"


ValidatorKind = Literal["etag", "last_modified", "version", "file", "crc", "none"]


@dataclass(frozen=True, slots=True)
class Validator:
    """What pins a source: the same validator means the same bytes. ``none`` pins nothing: one stream only."""

    kind: ValidatorKind
    value: str = ""

    def encode(self) -> str:
        return f"{self.kind}:{self.value}"

    @classmethod
    def decode(cls, text: str) -> Validator:
        kind, _, value = text.partition(":")
        return cls(kind, value)  # type: ignore[arg-type]  # written by encode() only

    @property
    def pins(self) -> bool:
        return self.kind != "none"


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What is known of an object before its bytes are read."""

    size_bytes: int | None
    validator: Validator
    accepts_ranges: bool = True
    name: str | None = None
    """File name the source suggests (Content-Disposition, last path segment), already sanitised."""
    content_type: str | None = None
    etag: str | None = None
    checksum: str | None = None
    """``algo:hex`` as the store reports it for the whole object, e.g. ``crc64nvme:ae8b14860a799888``."""
    mode: int | None = None
    """Permission bits of a local file, kept when a local file is copied to a local file."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    compared: str | None = None
    """After a commit: the algorithm of a checksum of the whole object that the destination compared itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """The unit that is planned, leased, retried and recorded. ``number`` counts from 1."""

    number: int
    span: ByteRange

    @property
    def size_bytes(self) -> int:
        return self.span.size_bytes


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """Proof of a stored part. ``etag`` is opaque and never compared across providers."""

    number: int
    size_bytes: int
    etag: str = ""
    crc64nvme: int | None = None
    """Checksum of the bytes that passed, filled in above the provider; None where no byte passed a worker."""


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """What ``create_upload`` is told. ``part_count`` is 1 for a whole object in one go (also for 0 bytes)."""

    size_bytes: int | None
    part_size_bytes: int
    part_count: int
    source_hash: str = ""
    """Hex digest of the whole source, for a destination that ``NeedsSourceHash``."""


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What a destination accepts. Sizes in bytes; the last part may be smaller than ``min_part_bytes``."""

    min_part_bytes: int = 1
    max_part_bytes: int = 5 << 40
    max_parts: int = 1_000_000
    max_object_bytes: int = 1 << 62
    sequential: bool = False
    """Parts must arrive one after the other, lowest first."""


class Body(Protocol):
    """Bytes of one range, read once, front to back."""

    size_bytes: int

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of ``buffer``; 0 only when all ``size_bytes`` were read. Raises ProviderError, also late."""
        ...

    def close(self) -> None:
        """Give the connection or descriptor back. Safe to repeat."""
        ...


class BytesBody:
    """A Body over bytes in memory: small objects and tests."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._rest = memoryview(b"")


class Source(Protocol):
    """Somewhere bytes are read from."""

    def stat(self) -> ObjectStat:
        """Raises NotFound, SourceMissing, Forbidden, TransportError."""
        ...

    def read_range(self, span: ByteRange, *, validator: Validator) -> Body:
        """Open exactly ``span`` of the object that ``validator`` pins. Raises SourceChanged, InvalidRange."""
        ...


@runtime_checkable
class ReadsUnsized(Protocol):
    """Skill: a source whose size only its end tells can be read as one stream."""

    def read_unsized(self, *, validator: Validator) -> Body:
        """The whole object from its first byte; ``size_bytes`` is -1. Raises as ``read_range`` does."""
        ...


class Destination(Protocol):
    """Somewhere bytes are written to, as a multipart upload. All calls but ``create_upload`` may be repeated."""

    limits: PartLimits

    def existing(self) -> ObjectStat | None:
        """The object that is at the destination now, or None; None too where the store cannot be asked."""
        ...

    def create_upload(self, plan: UploadPlan) -> UploadId:
        """Open a multipart upload (or reserve a temporary file). Raises DestinationExists, DiskFull."""
        ...

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """Store one part; sending it again replaces it. Raises UploadNotFound, Throttled, DiskFull."""
        ...

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        """Make the object visible, all at once, in part-number order, and verify it.

        Called again after a lost reply it finds the object it made, by checksum, by an ETag computed from the
        receipts or by metadata ``haulage-id``, never by size alone. Raises UploadNotFound, InvalidPart,
        ChecksumMismatch, DestinationExists.
        """
        ...

    def abort_upload(self, upload: UploadId) -> None:
        """Drop the upload and its parts. An upload that is gone counts as aborted. Never touches a committed object."""
        ...


@runtime_checkable
class ListsParts(Protocol):
    """Skill: the store can say which parts it holds."""

    def list_parts(self, upload: UploadId) -> Sequence[PartReceipt]:
        """All parts the store holds, every page. Raises UploadNotFound."""
        ...


@runtime_checkable
class ListsUploads(Protocol):
    """Skill: the store can name open uploads of exactly this key."""

    def list_uploads(self) -> Sequence[tuple[UploadId, float]]:
        """(upload, unix time it was created) for each open upload of exactly this key."""
        ...


@runtime_checkable
class ListsSessions(Protocol):
    """Skill: the store can name all open uploads below a prefix, whoever opened them."""

    def list_sessions(self, prefix: str) -> Sequence[tuple[str, UploadId, float]]:
        """(key, upload, unix time it was created) for each open upload of the bucket whose key begins with ``prefix``.

        Every page; the object's own key plays no part. Raises NotFound (no such bucket), Forbidden.
        """
        ...


@runtime_checkable
class DropsUnnamed(Protocol):
    """Skill: an upload is stored under the id of its transfer, and can be dropped by who never heard its own id."""

    def drop_unnamed(self) -> None:
        """Drop what ``create_upload`` may have made for this transfer. Safe to repeat."""
        ...


@runtime_checkable
class NeedsSourceHash(Protocol):
    """Skill: the store wants to hear the hash of the whole source before its first byte."""

    def source_hash(self) -> str:
        """Name of the algorithm, as ``hashlib`` has it. The digest comes with the ``UploadPlan``."""
        ...


@runtime_checkable
class ReportsOffset(Protocol):
    """Skill of a sequential destination: it says where the store goes on, and ``put_part`` may begin in mid-part.

    ``put_part`` gets the rest of a part, bytes of earlier parts that the store lost, or an empty range at the end of a
    part that the store held already: then nothing is sent. It raises OffsetMoved where the store has less than that.
    """

    def offset(self, upload: UploadId, *, at: int, again: bool, resumed: bool = False) -> int:
        """Bytes the store holds without a gap, from the first on; asked before each put. Raises UploadNotFound.

        ``at``: what is recorded, also the answer of a store that does not say. ``again``: what was heard before is not
        enough, because a put failed since, maybe in another process. ``resumed``: nor is what was heard when the upload
        was opened.
        """
        ...


@runtime_checkable
class CopiesRange(Protocol):
    """Skill: server-side copy; no byte passes a worker."""

    def can_copy_from(self, source: Source) -> bool:
        """Whether this store can read ``source`` by itself: same service, endpoint and reading credential."""
        ...

    def copy_part(self, upload: UploadId, part: Part, source: Source, *, validator: Validator) -> PartReceipt: ...


@runtime_checkable
class HashesUpload(Protocol):
    """Skill: the uploaded bytes can be hashed before they are visible (local files)."""

    def hash_upload(self, upload: UploadId, algorithm: str, passed: Callable[[int], None]) -> str:
        """Hex digest over the whole upload; ``passed(n)`` is called for each buffer and may raise StopRequested."""
        ...


@runtime_checkable
class RepairsParts(Protocol):
    """Skill: after a power loss the store may have forgotten acknowledged parts; it can re-read and name them."""

    def lost_parts(self, upload: UploadId, parts: Sequence[Part], receipts: Sequence[PartReceipt]) -> Sequence[int]:
        """Numbers of the parts whose stored bytes no longer match their receipt. Raises UploadNotFound."""
        ...


@runtime_checkable
class ReadsBack(Protocol):
    """Skill: what was committed can be read as a source and, if bad and new, removed."""

    def as_source(self) -> Source: ...
    def remove(self) -> None: ...


class BlobStore(Protocol):
    """What ``mem:`` needs: named strings that are read and written by range. Injected; providers know no Redis."""

    def size(self, name: str) -> int | None: ...
    def read(self, name: str, start: int, stop: int) -> bytes: ...
    def write(self, name: str, start: int, data: bytes) -> None: ...
    def rename(self, name: str, new_name: str, *, replace: bool) -> bool:
        """False when ``new_name`` exists and ``replace`` is False, or ``name`` is gone."""
        ...

    def remove(self, name: str) -> None: ...


class SignedPlans(Protocol):
    """What presigned flows need: texts of a transfer that hold signed requests, by name. Injected."""

    def read(self, transfer_id: str, names: Sequence[str]) -> Sequence[str | None]: ...
    def write(self, transfer_id: str, texts: Mapping[str, str]) -> bool:
        """False when nothing is kept of the transfer any more: nothing was written."""
        ...

    def lock(self, transfer_id: str, name: str) -> AbstractContextManager[bool]:
        """One holder in the whole fleet at a time. Waits for it; False when that took too long."""
        ...


@runtime_checkable
class OpenedElsewhere(Protocol):
    """Skill: the application opened the upload, and no other can be opened: only a cancel aborts it."""

    def keeps_upload(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Profile:
    """Settings and credentials of one place, resolved in the worker by name. Values never show in a repr."""

    name: str
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, key: str, default: str | None = None) -> str | None:
        return self.values.get(key, default)


@dataclass(frozen=True, slots=True)
class Options:
    """What the spec says that concerns a provider. ``headers`` may hold secrets and never show in a repr."""

    transfer_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str | None = None
    accept: str | None = None
    user_agent: str | None = None
    size_bytes: int | None = None
    """Known size: the HEAD request is skipped."""
    on_exists: OnExists | None = None
    preallocate: Literal["auto", "full", "sparse", "none"] = "auto"
    content_type: str | None = None
    mode: int | None = None
    ipv6: bool = True


@dataclass(frozen=True, slots=True)
class Services:
    """What the process lends to providers; built once per process, after the fork."""

    blobs: BlobStore | None = None
    plans: SignedPlans | None = None
    roots: tuple[str, ...] = ()
    """Folders local paths are confined to; empty: no confinement."""
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    minimum_bytes_per_second: int = 1024
    """A part slower than this over ``stall_seconds`` is given up as Stalled."""
    stall_seconds: float = 30.0
    redirects: dict[str, str] = field(default_factory=dict, repr=False)
    """Origin URL -> redirect target that worked last, shared by the threads of a process (BH-07)."""
    session_factory: Callable[[], Any] | None = field(default=None, repr=False)
    """Gives the ``requests.Session`` whose headers, auth, proxies and adapters requests use (RC-14)."""
