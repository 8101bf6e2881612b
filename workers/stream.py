"""Moves a source that can only be read once, front to back: one lease, receipts as parts fill."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO

from orchestrator.plan import stream_part_size
from providers.base import BUFFER_BYTES, Body, ByteRange, Part, PartReceipt, ReadsUnsized
from providers.errors import LengthUnknown
from workers.copy import PassingBody, put
from workers.endpoints import Endpoints
from workers.leases import Held

Record = Callable[[PartReceipt, int], None]
"""Called for each stored part with its receipt and, for the last part, the count of parts (else 0)."""


class _Slice:
    """The next ``size_bytes`` of a longer body; closing it leaves the body open."""

    def __init__(self, body: Body, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._left = size_bytes
        self._body = body

    def readinto(self, buffer: memoryview) -> int:
        count = self._body.readinto(buffer[: self._left]) if self._left else 0
        self._left -= count
        return count

    def close(self) -> None:
        """The stream goes on."""


class _Spooled:
    """A part of unknown-size input, read back from a temporary file: its size is known before it is sent."""

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._file = file
        file.seek(0)

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer)  # type: ignore[attr-defined, no-any-return]  # SpooledTemporaryFile has it

    def close(self) -> None:
        """The file is reused for the next part."""


def move_stream(held: Held, ends: Endpoints, record: Record) -> None:
    """Read the whole source once. Raises ProviderError; parts recorded so far are void then."""
    held.received = 0
    size = ends.plan.size_bytes
    if size is not None:
        body = ends.source.read_range(ByteRange(0, size), validator=ends.validator)
    elif isinstance(ends.source, ReadsUnsized):
        body = ends.source.read_unsized(validator=ends.validator)
    else:
        raise LengthUnknown(f"{ends.source_location.shown} has no size, and cannot be read without one")
    try:
        if size is None:
            _unsized(held, ends, body, record)
        else:
            for number in range(1, ends.plan.part_count + 1):
                part = ends.plan.part(number)
                receipt = put(held, part, ends, PassingBody(_Slice(body, part.size_bytes), held))
                record(receipt, ends.plan.part_count if number == ends.plan.part_count else 0)
    finally:
        body.close()


def _unsized(held: Held, ends: Endpoints, body: Body, record: Record) -> None:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    number, start, ahead, ended = 0, 0, b"", False
    with tempfile.TemporaryFile() as spool:
        while not ended:
            number += 1
            wanted = stream_part_size(number, ends.plan.part_size_bytes, ends.destination.limits)
            size = _fill(held, spool, body, wanted, ahead, buffer)
            # One byte is read ahead, so that a source that ends at a part's edge has no empty last part.
            ahead = bytes(buffer[: body.readinto(buffer[:1])]) if size == wanted else b""
            ended = not ahead
            part = Part(number, ByteRange(start, start + size))
            receipt = put(held, part, ends, PassingBody(_Spooled(spool, size), held))
            start += size
            record(receipt, number if ended else 0)


def _fill(held: Held, spool: IO[bytes], body: Body, wanted: int, ahead: bytes, buffer: memoryview) -> int:
    """Read up to ``wanted`` bytes into the spool, after the bytes read ahead; fewer only at the source's end."""
    spool.seek(0)
    spool.truncate()
    spool.write(ahead)
    size = len(ahead)
    while size < wanted:
        held.check()
        count = body.readinto(buffer[: wanted - size])
        if count == 0:
            break
        spool.write(buffer[:count])
        held.touch()
        size += count
    return size
