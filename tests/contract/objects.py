"""Objects of the contract suite: their bytes, their parts, and the bodies they come in."""

from __future__ import annotations

import random
from functools import cache

from providers.base import Body, ByteRange, BytesBody, Destination, Part, PartReceipt, UploadId, UploadPlan
from providers.errors import ProviderError


@cache
def noise(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes that are the same in each run, and differ by ``seed``."""
    return random.Random(seed).randbytes(size_bytes)


def cut(size_bytes: int, part_bytes: int) -> list[Part]:
    starts = range(0, max(size_bytes, 1), part_bytes)
    return [Part(n, ByteRange(at, min(at + part_bytes, size_bytes))) for n, at in enumerate(starts, 1)]


def plan(parts: list[Part]) -> UploadPlan:
    return UploadPlan(parts[-1].span.stop, parts[0].size_bytes, len(parts))


def put(destination: Destination, upload: UploadId, part: Part, data: bytes) -> PartReceipt:
    """Store the bytes that ``part`` has in ``data``, which is the whole object."""
    return destination.put_part(upload, part, BytesBody(data[part.span.start : part.span.stop]))


def send(destination: Destination, data: bytes, part_bytes: int) -> None:
    """The whole life of an upload."""
    parts = cut(len(data), part_bytes)
    upload = destination.create_upload(plan(parts))
    destination.complete_upload(upload, [put(destination, upload, part, data) for part in parts])


def read_all(body: Body, buffer_bytes: int = 50_000) -> bytes:
    """Everything a body gives, by a buffer that fits nothing evenly."""
    buffer, read = memoryview(bytearray(buffer_bytes)), bytearray()
    try:
        while got := body.readinto(buffer):
            read += buffer[:got]
    finally:
        body.close()
    return bytes(read)


class FailingBody:
    """Gives ``good_bytes`` of what it promised, then raises."""

    def __init__(self, size_bytes: int, good_bytes: int, error: ProviderError) -> None:
        self.size_bytes = size_bytes
        self._good = BytesBody(noise(good_bytes, 9))
        self._error = error

    def readinto(self, buffer: memoryview) -> int:
        got = self._good.readinto(buffer)
        if not got:
            raise self._error
        return got

    def close(self) -> None:
        self._good.close()
