"""``mem:NAME``: small objects in the state store, moved like any other. Where they are kept is injected."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from awscrt.checksums import combine_crc64nvme, crc32c, crc64nvme

from providers.base import (
    MIB,
    BlobStore,
    Body,
    ByteRange,
    Destination,
    DropsUnnamed,
    ObjectStat,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReadsBack,
    Services,
    Source,
    UploadId,
    UploadPlan,
    Validator,
)
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    InvalidRange,
    NotFound,
    ObjectTooLarge,
    ProviderUnavailable,
    SourceChanged,
    TransportError,
    UploadNotFound,
)
from providers.local_io import thread_buffer
from providers.receipts import in_order
from providers.schemes import MEMORY_LIMITS, Location

SOURCE_MAX_BYTES = 64 * MIB
BLOCK_BYTES = MIB
"""The validator holds a CRC for each block, so that what is read is checked block by block, wherever it begins."""


def source(location: Location, profile: Profile, options: Options, services: Services) -> Source:
    return MemorySource(_blobs(services), location.key)


def destination(location: Location, profile: Profile, options: Options, services: Services) -> Destination:
    return MemoryDestination(_blobs(services), location.key, options)


def _blobs(services: Services) -> BlobStore:
    if services.blobs is None:
        raise ProviderUnavailable("mem: this process has no store for objects in memory")
    return services.blobs


class MemorySource(Source):
    """A named string of at most 64 MiB, pinned by its checksum."""

    def __init__(self, blobs: BlobStore, name: str) -> None:
        self._blobs = blobs
        self._name = name

    def stat(self) -> ObjectStat:
        size_bytes = self._blobs.size(self._name)
        if size_bytes is None:
            raise NotFound(f"mem:{self._name} does not exist")
        if size_bytes > SOURCE_MAX_BYTES:
            raise ObjectTooLarge("source", f"mem:{self._name}", f"at most {SOURCE_MAX_BYTES} bytes")
        return _describe(self._blobs, self._name, size_bytes)

    def read_range(self, span: ByteRange, *, validator: Validator) -> MemoryBody:
        size_bytes = self._blobs.size(self._name)
        if size_bytes is None or (validator.pins and not _fits(validator, size_bytes)):
            raise SourceChanged(f"mem:{self._name} was changed or removed")
        if span.stop > size_bytes:
            raise InvalidRange(f"mem:{self._name} has {size_bytes} bytes, none at {span.stop - 1}")
        return MemoryBody(self._blobs, self._name, span, size_bytes, validator)


class MemoryBody(Body):
    """Reads whole blocks, so that each can be checked, and hands out the bytes of the range."""

    def __init__(self, blobs: BlobStore, name: str, span: ByteRange, total: int, validator: Validator) -> None:
        self.size_bytes = span.size_bytes
        self._blobs = blobs
        self._name = name
        self._span = span
        self._at = span.start
        self._total = total
        self._blocks = _pinned_blocks(validator) if validator.pins else None
        self._ready = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        if not self._ready and self._at < self._span.stop:
            self._ready = self._next_block()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        self._at += count
        return count

    def _next_block(self) -> memoryview:
        index = self._at // BLOCK_BYTES
        start = index * BLOCK_BYTES
        data = self._blobs.read(self._name, start, min(start + BLOCK_BYTES, self._total))
        if len(data) != min(BLOCK_BYTES, self._total - start) or (self._blocks and self._blocks[index] != _block(data)):
            raise SourceChanged(f"mem:{self._name} was changed or removed while it was read")
        return memoryview(data)[self._at - start : self._span.stop - start]

    def close(self) -> None:
        self._ready = memoryview(b"")
        self._at = self._span.stop


class MemoryDestination(Destination, DropsUnnamed, ReadsBack):
    """Parts are written into a string of another name, which gets its own name when it is whole."""

    limits = MEMORY_LIMITS

    def __init__(self, blobs: BlobStore, name: str, options: Options) -> None:
        self._blobs = blobs
        self._name = name
        self._transfer_id = options.transfer_id
        self._replaces = options.on_exists in (None, "overwrite")

    def existing(self) -> ObjectStat | None:
        size_bytes = self._blobs.size(self._name)
        return None if size_bytes is None else _describe(self._blobs, self._name, size_bytes)

    def create_upload(self, plan: UploadPlan) -> UploadId:
        if (plan.size_bytes or 0) > self.limits.max_object_bytes:
            raise ObjectTooLarge("destination", f"mem:{self._name}", f"at most {self.limits.max_object_bytes} bytes")
        if not self._replaces and self._blobs.size(self._name) is not None:
            raise self._exists()
        token = _token(self._transfer_id or secrets.token_hex())
        upload = UploadId(f"{token}.{'' if plan.size_bytes is None else plan.size_bytes}")
        self._blobs.remove(self._temp(upload))
        last = max(0, (plan.size_bytes or 0) - 1)
        self._blobs.write(self._temp(upload), last, b"\0" if plan.size_bytes else b"")
        return upload

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        size_bytes = _upload_size(upload)
        limit = self.limits.max_object_bytes if size_bytes is None else size_bytes
        if part.span.stop > limit or body.size_bytes != part.size_bytes:
            raise InvalidRange(f"part {part.number} does not fit: {part.span}, a body of {body.size_bytes} bytes")
        if self._blobs.size(self._temp(upload)) is None:
            raise self._not_found()
        buffer, at, crc = thread_buffer(), part.span.start, 0
        while at < part.span.stop:
            count = body.readinto(buffer[: part.span.stop - at])
            if not count:
                raise TransportError(f"the body of part {part.number} ended {part.span.stop - at} bytes early")
            crc = crc64nvme(buffer[:count], crc)
            self._blobs.write(self._temp(upload), at, bytes(buffer[:count]))
            at += count
        return PartReceipt(part.number, part.size_bytes, etag=f"{crc:016x}")

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        ordered = in_order(receipts, _upload_size(upload))
        temp = self._temp(upload)
        if (size_bytes := self._blobs.size(temp)) is None:
            return self._completed_before(ordered)
        if not self._is_made_of(temp, size_bytes, ordered):
            raise ChecksumMismatch(f"mem:{self._name}: what is stored is not what the receipts say")
        if self._blobs.rename(temp, self._name, replace=self._replaces):
            return _describe(self._blobs, self._name, size_bytes)
        if self._blobs.size(temp) is None:
            return self._completed_before(ordered)
        raise self._exists()

    def abort_upload(self, upload: UploadId) -> None:
        self._blobs.remove(self._temp(upload))

    def drop_unnamed(self) -> None:
        self._blobs.remove(self._temp(UploadId(_token(self._transfer_id))))

    def as_source(self) -> Source:
        return MemorySource(self._blobs, self._name)

    def remove(self) -> None:
        self._blobs.remove(self._name)

    def _completed_before(self, ordered: Sequence[PartReceipt]) -> ObjectStat:
        """A reply was lost: the object is ours if it has the checksum of our parts."""
        size_bytes = self._blobs.size(self._name)
        if size_bytes is None or not self._is_made_of(self._name, size_bytes, ordered):
            raise self._not_found()
        return _describe(self._blobs, self._name, size_bytes)

    def _is_made_of(self, name: str, size_bytes: int, ordered: Sequence[PartReceipt]) -> bool:
        expected = 0
        for receipt in ordered:
            expected = combine_crc64nvme(expected, int(receipt.etag, 16), receipt.size_bytes)
        is_whole = size_bytes == sum(receipt.size_bytes for receipt in ordered)
        return is_whole and _checksums(self._blobs, name, size_bytes)[0] == expected

    def _temp(self, upload: UploadId) -> str:
        return f"{self._name}\0{upload.partition('.')[0]}"

    def _exists(self) -> DestinationExists:
        return DestinationExists(f"mem:{self._name} exists already")

    def _not_found(self) -> UploadNotFound:
        return UploadNotFound(f"the upload to mem:{self._name} is gone")


def _upload_size(upload: UploadId) -> int | None:
    size = upload.partition(".")[2]
    return int(size) if size else None


def _block(data: bytes) -> str:
    return f"{crc32c(data):08x}"


def _checksums(blobs: BlobStore, name: str, size_bytes: int) -> tuple[int, str]:
    """CRC-64/NVME of the whole, and the CRC-32C of each block in one string."""
    crc, blocks = 0, []
    for start in range(0, size_bytes, BLOCK_BYTES):
        data = blobs.read(name, start, min(start + BLOCK_BYTES, size_bytes))
        crc = crc64nvme(data, crc)
        blocks.append(_block(data))
    return crc, "".join(blocks)


def _describe(blobs: BlobStore, name: str, size_bytes: int) -> ObjectStat:
    crc, blocks = _checksums(blobs, name, size_bytes)
    validator = Validator("crc", f"{size_bytes}-{crc:016x}-{blocks}")
    return ObjectStat(size_bytes, validator, name=name.rpartition("/")[2], checksum=f"crc64nvme:{crc:016x}")


def _fits(validator: Validator, size_bytes: int) -> bool:
    """Whether an object of this size may be the one that is pinned; its blocks decide while they are read."""
    blocks = -(-size_bytes // BLOCK_BYTES)
    same_size = validator.value.startswith(f"{size_bytes}-")
    return validator.kind == "crc" and same_size and len(_pinned_blocks(validator)) == blocks


def _pinned_blocks(validator: Validator) -> list[str]:
    blocks = validator.value.rpartition("-")[2]
    return [blocks[at : at + 8] for at in range(0, len(blocks), 8)]


def _token(transfer_id: str) -> str:
    return hashlib.blake2s(transfer_id.encode(), digest_size=8).hexdigest()
