"""Moves one part: source -> destination, checksummed on the way, stopped between buffers."""

from __future__ import annotations

from dataclasses import replace

from awscrt.checksums import crc64nvme

from providers.base import Body, BytesBody, CopiesRange, Part, PartReceipt
from providers.errors import PartCorrupted, TransportError
from workers.endpoints import Endpoints
from workers.leases import Held

REPLY_SECONDS = 300.0
"""Patience for an answer after the last byte of a part was sent."""
COPY_SECONDS = 900.0
"""Patience for a server-side copy of one part."""


class PassingBody:
    """A Body that counts, checksums and can be stopped: what the destination reads from."""

    def __init__(self, inner: Body, held: Held) -> None:
        self.size_bytes = inner.size_bytes
        self.counted = 0
        self.crc = 0
        self._inner = inner
        self._held = held

    def readinto(self, buffer: memoryview) -> int:
        """Checked before the read and after it, that is before the write: the read may have slept for long."""
        self._held.check()
        count = self._inner.readinto(buffer)
        self._held.check()
        if count:
            self.crc = crc64nvme(buffer[:count], self.crc)
            self.counted += count
            self._held.passed(count)
        if self.counted == self.size_bytes:
            self._held.touch(patience_seconds=REPLY_SECONDS)
        return count

    def close(self) -> None:
        self._inner.close()


def move_part(held: Held, part: Part, ends: Endpoints) -> PartReceipt:
    """Move ``part`` and return its receipt, with the checksum of what passed. Raises ProviderError."""
    held.received = 0
    if ends.server_copy and isinstance(ends.destination, CopiesRange):
        held.check()
        held.touch(patience_seconds=COPY_SECONDS)
        return ends.destination.copy_part(ends.upload, part, ends.source, validator=ends.validator)
    inner = ends.source.read_range(part.span, validator=ends.validator) if part.size_bytes else BytesBody(b"")
    body = PassingBody(inner, held)
    try:
        return put(held, part, ends, body)
    finally:
        body.close()


def put(held: Held, part: Part, ends: Endpoints, body: PassingBody) -> PartReceipt:
    """Send ``body`` as ``part``. A destination that stops short of the whole body did not store the part.

    Whoever was asked to stop meanwhile has a stored part all the same: the ledger says whether it counts.
    """
    receipt = ends.destination.put_part(ends.upload, part, body)
    if body.counted != part.size_bytes:
        raise TransportError(f"part {part.number}: {body.counted} of {part.size_bytes} bytes were sent")
    if receipt.crc64nvme not in (None, body.crc):
        raise PartCorrupted(
            f"part {part.number}: the store has crc64nvme {receipt.crc64nvme:016x}, not {body.crc:016x}"
        )
    return replace(receipt, crc64nvme=body.crc)
