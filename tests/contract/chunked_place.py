"""Places that take bytes in order only, as the suite of ``test_chunked_sequence.py`` sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from providers.base import ByteRange, BytesBody, Destination, Part, PartReceipt, ReportsOffset, UploadId, UploadPlan


class InOrder(Destination, ReportsOffset, Protocol):
    """What every such place can do."""


@dataclass(frozen=True)
class OrderedPlace:
    """One storage. ``open`` is what another process would open; ``read`` uses another road than ours."""

    open: Callable[[], Any]
    read: Callable[[], bytes | None]
    part_bytes: int

    def begin(self, data: bytes) -> tuple[InOrder, UploadId]:
        destination: InOrder = self.open()
        assert isinstance(destination, ReportsOffset)
        assert destination.limits.sequential
        digest = hashlib.new("md5", data, usedforsecurity=False).hexdigest()
        count = max(1, -(-len(data) // self.part_bytes))
        return destination, destination.create_upload(UploadPlan(len(data), self.part_bytes, count, digest))

    def send(self, destination: InOrder, upload: UploadId, data: bytes) -> list[PartReceipt]:
        """All parts as a lane sends them: from where the place goes on."""
        receipts = []
        for number in range(1, max(1, -(-len(data) // self.part_bytes)) + 1):
            span = ByteRange((number - 1) * self.part_bytes, min(number * self.part_bytes, len(data)))
            at = min(max(destination.offset(upload, at=span.start, again=False), span.start), span.stop)
            rest = Part(number, ByteRange(at, span.stop))
            told = destination.put_part(upload, rest, BytesBody(data[at : span.stop]))
            receipts.append(PartReceipt(number, span.size_bytes, told.etag))
        return receipts
