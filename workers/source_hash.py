"""The hash of the whole source, for destinations that must name it beforehand: one pass, kept in the record."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import structlog
from awscrt.checksums import crc64nvme

from providers.base import BUFFER_BYTES, ByteRange, ObjectStat
from providers.errors import LengthUnknown, SourceChanged, StopRequested
from workers.bootstrap import Deps
from workers.endpoints import Endpoints
from workers.leases import Held

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SourceHash:
    """``crc64nvme`` is computed in the same pass: the commit proves by it that the bytes sent are those hashed."""

    algorithm: str
    digest: str
    crc64nvme: str
    validator: str

    def encode(self) -> str:
        return f"{self.algorithm}:{self.digest}:{self.crc64nvme}:{self.validator}"


def hash_source(deps: Deps, held: Held, ends: Endpoints, stat: ObjectStat, algorithm: str) -> SourceHash:
    """The hash in the record if it is of this very source; else read the source once, under the lease held.

    A pause, a cancel or a drain stops the pass between two buffers; the next preparation begins it anew. A source that
    nothing pins is read for each preparation. Raises SourceChanged, LengthUnknown, StopRequested.
    """
    parts = ends.record.fields.get("source_hash", "").split(":", 3)
    if len(parts) == 4 and stat.validator.pins:
        known = SourceHash(*parts)
        if known.algorithm == algorithm and known.validator == stat.validator.encode():
            return known
    if stat.size_bytes is None:
        raise LengthUnknown(f"{ends.source_location.shown} has no size, and the destination must be told one")
    began = time.monotonic()
    digest, crc = _read(held, ends, stat, stat.size_bytes, algorithm)
    if ends.source.stat().validator != stat.validator:
        raise SourceChanged("the source changed while it was hashed")
    found = SourceHash(algorithm, digest, f"{crc:016x}", stat.validator.encode())
    if not deps.ledger.note(held.lease, {"source_hash": found.encode()}):
        raise StopRequested("lost")
    seconds = int((time.monotonic() - began) * 1000)
    log.info("source_hashed", transfer_id=ends.record.transfer_id, size_bytes=stat.size_bytes, duration_ms=seconds)
    return found


def _read(held: Held, ends: Endpoints, stat: ObjectStat, size_bytes: int, algorithm: str) -> tuple[str, int]:
    digest, crc = hashlib.new(algorithm, usedforsecurity=False), 0
    if not size_bytes:
        return digest.hexdigest(), crc
    held.received, left = 0, size_bytes
    buffer = memoryview(bytearray(BUFFER_BYTES))
    body = ends.source.read_range(ByteRange(0, size_bytes), validator=stat.validator)
    try:
        while left:
            held.check()
            count = body.readinto(buffer)
            if not count:
                raise SourceChanged(f"the source ended {left} bytes early")
            digest.update(buffer[:count])
            crc = crc64nvme(buffer[:count], crc)
            held.passed(count)
            left -= count
    finally:
        body.close()
    return digest.hexdigest(), crc
