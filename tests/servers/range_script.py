"""What ``range_server`` serves, what it does wrong, and what it notes down."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PIECE_BYTES = 256 << 10
_MIB = 1 << 20


@cache
def _noise() -> bytes:
    return random.Random(20_251_121).randbytes(_MIB)


@dataclass(frozen=True)
class Pattern:
    """``size_bytes`` of bytes that nobody stores: the same noise in each MiB, headed by that MiB's number."""

    size_bytes: int

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size_bytes)
        first, last = start // _MIB, -(-stop // _MIB)
        whole = b"".join(struct.pack(">Q", number) + _noise()[8:] for number in range(first, last))
        return whole[start - first * _MIB : stop - first * _MIB]

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for start in range(0, self.size_bytes, _MIB):
            digest.update(self.read(start, start + _MIB))
        return digest.hexdigest()


Content = bytes | Path | Pattern


@dataclass
class Served:
    """One object. Change its fields at any time to change what the next request sees."""

    content: Content
    etag: str | None
    last_modified: str | None = "Fri, 21 Nov 2025 08:00:00 GMT"
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True

    @property
    def size_bytes(self) -> int:
        match self.content:
            case bytes():
                return len(self.content)
            case Path():
                return self.content.stat().st_size
            case Pattern():
                return self.content.size_bytes

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        if isinstance(self.content, Path):
            with self.content.open("rb") as file:
                file.seek(start)
                while start < stop:
                    piece = file.read(min(PIECE_BYTES, stop - start))
                    start += len(piece)
                    yield piece
            return
        for at in range(start, stop, PIECE_BYTES):
            until = min(stop, at + PIECE_BYTES)
            yield self.content[at:until] if isinstance(self.content, bytes) else self.content.read(at, until)


@dataclass
class Fault:
    """What goes wrong, for the requests it matches. Unset fields change nothing; the first live match is used."""

    path: str
    method: str | None = None
    times: int | None = None
    """For how many matching requests; None: always."""
    after: int = 0
    """How many matching requests are left alone first."""
    ranged: bool | None = None
    """Only requests with (True) or without (False) a Range header."""

    status: int | None = None
    """Answer this status, with ``headers``, and no content."""
    headers: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Names of headers that are left out."""
    ignore_range: bool = False
    shift_start: int = 0
    """Content-Range claims to start this much later; the bytes are those asked for."""
    total: str | None = None
    """What Content-Range names as the size of the object."""
    announce: int = 0
    """Content-Length says this much more (or less, if negative) than the range has; as much is sent."""
    surplus: bytes = b""
    """Sent after the announced end of the body."""
    cut: int | None = None
    """Close the connection in the body, after so many bytes."""
    reset: int | None = None
    """Reset it."""
    stall: int | None = None
    """Send nothing more after so many bytes, until the client goes away."""
    stall_head: bool = False
    """Never answer."""
    drip_seconds: float | None = None
    """Send one byte at a time, with this pause."""
    gzip: bool = False
    chunked: bool = False
    close_delimited: bool = False
    """No length; the end of the connection is the end of the body."""
    ignore_conditions: bool = False
    answer_before_body: bool = False
    """For PUT: answer without reading the body."""

    def let_go(self) -> None:
        """Strike no more, and let what drips now go on as fast as it can."""
        self.times, self.drip_seconds = 0, None


@dataclass
class Request:
    """One line of the log. ``bytes_sent`` (of the body) and ``status`` grow while the answer is sent."""

    method: str
    path: str
    """With the query."""
    range: str | None
    headers: dict[str, str] = field(repr=False)
    """Names in lower case."""
    unix_time: float
    connection: int
    status: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    peer_certificate: str | None = None
    absolute: bool = False
    """The request line held a whole URL, as one sends it to a proxy."""
