"""Reading back what was written to a temporary file: whole-file digests, and parts that a power loss took."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

from awscrt.checksums import crc64nvme

from providers.base import ByteRange, Part, PartReceipt
from providers.errors import InvalidValue
from providers.local_io import thread_buffer

ALGORITHMS = ("md5", "sha1", "sha256", "sha512")


def digest(fd: int, algorithm: str, passed: Callable[[int], None]) -> str:
    """Hex digest of the file, in one sequential pass. ``passed(n)`` follows each buffer and may raise."""
    if algorithm not in ALGORITHMS:
        raise InvalidValue("checksum", algorithm, ", ".join(ALGORITHMS))
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    for view in _buffers(fd, ByteRange(0, os.fstat(fd).st_size)):
        hasher.update(view)
        passed(len(view))
    return hasher.hexdigest()


def differing_parts(fd: int, parts: Sequence[Part], receipts: Sequence[PartReceipt]) -> list[int]:
    """Numbers of the parts whose bytes on disk do not prove to be those of their receipt."""
    spans = {part.number: part.span for part in parts}
    unknown = ByteRange(0, 0)
    return [each.number for each in receipts if _crc(fd, spans.get(each.number, unknown)) != each.crc64nvme]


def _crc(fd: int, span: ByteRange) -> int:
    crc = 0
    for view in _buffers(fd, span):
        crc = crc64nvme(view, crc)
    return crc


def _buffers(fd: int, span: ByteRange) -> Iterator[memoryview]:
    """The bytes of ``span`` as far as the file has them; each view is good until the next."""
    buffer, at = thread_buffer(), span.start
    while at < span.stop:
        count = os.preadv(fd, [buffer[: span.stop - at]], at)
        if not count:
            return
        yield buffer[:count]
        at += count
