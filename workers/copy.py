"""Moves one part: source -> destination, checksummed on the way, stopped between buffers."""

from __future__ import annotations

from dataclasses import replace

from awscrt.checksums import crc64nvme

from providers.base import BUFFER_BYTES, Body, ByteRange, BytesBody, CopiesRange, Part, PartReceipt, ReportsOffset
from providers.errors import OffsetMoved, OffsetStuck, PartCorrupted, TransportError
from workers.endpoints import Endpoints
from workers.leases import Held

REPLY_SECONDS = 300.0
"""Patience for an answer after the last byte of a part was sent."""
COPY_SECONDS = 900.0
"""Patience for a server-side copy of one part."""
MAX_REWINDS = 3
"""How often a server may ask for bytes again within one part before it is given up."""
_PROGRESS_BYTES = 64 << 10
"""A server that takes less than this of what was sent did not go on."""


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
    if isinstance(ends.destination, ReportsOffset):
        return _move_from_offset(held, part, ends, ends.destination)
    body = _open(held, part.span, ends)
    try:
        return put(held, part, ends, body)
    finally:
        body.close()


def _open(held: Held, span: ByteRange, ends: Endpoints) -> PassingBody:
    inner = ends.source.read_range(span, validator=ends.validator) if span.size_bytes else BytesBody(b"")
    return PassingBody(inner, held)


def _move_from_offset(held: Held, part: Part, ends: Endpoints, destination: ReportsOffset) -> PartReceipt:
    """Send what the store says it lacks, up to the end of ``part``: the rest of it, or lost bytes before it too.

    The part is read as a whole once, for its checksum, unless the store holds all of it: then it is not read, and its
    receipt has no checksum. Raises OffsetStuck where the store asks for the same bytes again and again.
    """
    resumed = ends.record.number("round") > 1
    at = destination.offset(ends.upload, at=part.span.start, again=held.lease.attempt > 1, resumed=resumed)
    crc, rewinds = None if part.size_bytes else 0, 0
    while at < part.span.stop:
        whole = crc is None and at >= part.span.start
        # Lost bytes before the part go in pieces no larger than a part.
        end = part.span.stop if at >= part.span.start else min(part.span.start, at + ends.plan.part_size_bytes)
        span = part.span if whole else ByteRange(at, end)
        held.received = 0
        body = _open(held, span, ends)
        try:
            following = _send(ends, destination, Part(part.number, span), body, at)
        finally:
            body.close()
        crc = body.crc if whole else crc
        rewinds += following - at < min(_PROGRESS_BYTES, span.stop - at)
        if rewinds > MAX_REWINDS:
            raise OffsetStuck(f"part {part.number}: the server asked {rewinds} times for bytes it was sent")
        at = following
    nothing = Part(part.number, ByteRange(part.span.stop, part.span.stop))
    told = ends.destination.put_part(ends.upload, nothing, BytesBody(b""))
    return PartReceipt(part.number, part.size_bytes, told.etag, crc)


def _send(ends: Endpoints, destination: ReportsOffset, part: Part, body: PassingBody, at: int) -> int:
    """Send ``part`` from offset ``at`` on; ``body`` begins with the part. Answers where the store goes on."""
    _skip(body, min(at, part.span.stop) - part.span.start)
    rest = ByteRange(min(at, part.span.stop), part.span.stop)
    try:
        ends.destination.put_part(ends.upload, Part(part.number, rest), body)
    except OffsetMoved as moved:
        following = moved.offset
    else:
        following = destination.offset(ends.upload, at=part.span.stop, again=False)
    _check_counted(part, body)
    return following


def _skip(body: PassingBody, count: int) -> None:
    """Read bytes that the store holds, for the checksum alone."""
    buffer = memoryview(bytearray(min(BUFFER_BYTES, count)))
    while count:
        got = body.readinto(buffer[:count])
        if not got:
            raise TransportError(f"the source ended {count} bytes early")
        count -= got


def _check_counted(part: Part, body: PassingBody) -> None:
    if body.counted != part.size_bytes:
        raise TransportError(f"part {part.number}: {body.counted} of {part.size_bytes} bytes were sent")


def put(held: Held, part: Part, ends: Endpoints, body: PassingBody) -> PartReceipt:
    """Send ``body`` as ``part``. A destination that stops short of the whole body did not store the part.

    Whoever was asked to stop meanwhile has a stored part all the same: the ledger says whether it counts.
    """
    if isinstance(ends.destination, ReportsOffset):
        return _put_in_order(part, ends, ends.destination, body)
    receipt = ends.destination.put_part(ends.upload, part, body)
    _check_counted(part, body)
    if receipt.crc64nvme not in (None, body.crc):
        raise PartCorrupted(
            f"part {part.number}: the store has crc64nvme {receipt.crc64nvme:016x}, not {body.crc:016x}"
        )
    return replace(receipt, crc64nvme=body.crc)


def _put_in_order(part: Part, ends: Endpoints, destination: ReportsOffset, body: PassingBody) -> PartReceipt:
    """A part of a stream, which cannot be read again: a store that goes back makes the stream begin anew."""
    at = destination.offset(ends.upload, at=part.span.start, again=False)
    following = at if at < part.span.start else _send(ends, destination, part, body, at)
    if following < part.span.stop:
        raise OffsetMoved(f"the server goes back to byte {following} of a stream", offset=following)
    told = ends.destination.put_part(ends.upload, Part(part.number, ByteRange(following, following)), BytesBody(b""))
    return PartReceipt(part.number, part.size_bytes, told.etag, body.crc)
