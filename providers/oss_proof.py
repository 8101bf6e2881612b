"""What ties an OSS object to the parts it was made of: CRC-64/XZ, which OSS calls crc64ecma, joined without reading.

OSS tells it for each part and for the whole, and a receipt has no field for it: it travels in the receipt's ETag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from fastcrc.crc64 import xz

from providers.base import Body, ObjectStat, PartReceipt, Validator

CRC_HEADER = "x-oss-hash-crc64ecma"
META = "x-oss-meta-"
_MARKED = re.compile(r'"?([^":]*):([0-9a-f]{16})"?')
_POLYNOMIAL = 0xC96C5795D7870F42
"""Of CRC-64/XZ, lowest bit first: bit 63 stands for x^0."""
_ONE = 1 << 63


class CrcBody:
    """A Body that sums up what passes."""

    def __init__(self, inner: Body) -> None:
        self.size_bytes = inner.size_bytes
        self.crc = 0
        self._inner = inner

    def readinto(self, buffer: memoryview) -> int:
        count = self._inner.readinto(buffer)
        if count:
            self.crc = xz(buffer[:count], self.crc)
        return count

    def close(self) -> None:
        self._inner.close()


def receipt_of(number: int, size_bytes: int, etag: str, crc: int | None) -> PartReceipt:
    bare = etag.strip('"')
    return PartReceipt(number, size_bytes, f'"{bare}"' if crc is None else f'"{bare}:{crc:016x}"')


def etag_of(receipt: PartReceipt) -> str:
    """As the store named it, without quotes."""
    found = _MARKED.fullmatch(receipt.etag)
    return found[1] if found else receipt.etag.strip('"')


def crc_of(receipt: PartReceipt) -> int | None:
    found = _MARKED.fullmatch(receipt.etag)
    return int(found[2], 16) if found else None


def joined_crc(receipts: Sequence[PartReceipt]) -> int | None:
    """CRC of the whole object from its parts in order; None where one part's is not known."""
    total = 0
    for each in receipts:
        crc = crc_of(each)
        if crc is None:
            return None
        total = combine(total, crc, each.size_bytes)
    return total


def combine(first: int, second: int, second_bytes: int) -> int:
    """CRC of two runs of bytes, one after the other, from the CRC of each."""
    shifted = 0
    for table in _shift(second_bytes):
        shifted ^= table[first & 0xFF]
        first >>= 8
    return shifted ^ second


@lru_cache(maxsize=16)
def _shift(size_bytes: int) -> tuple[tuple[int, ...], ...]:
    """What each value of each byte of a CRC becomes when so many zero bytes follow: multiplied by x^(8 * size_bytes).

    Parts are equal but the last, so two of these join 10,000 parts in milliseconds.
    """
    power, square, exponent = _ONE, _ONE >> 1, 8 * size_bytes
    while exponent:
        if exponent & 1:
            power = _product(power, square)
        square = _product(square, square)
        exponent >>= 1
    tables = []
    for byte in range(8):
        table = [0]
        for bit in range(8):
            moved = _product(power, 1 << (8 * byte + bit))
            table += [moved ^ each for each in table]
        tables.append(tuple(table))
    return tuple(tables)


def _product(left: int, right: int) -> int:
    """Of two polynomials over GF(2), modulo the polynomial."""
    result, bit = 0, _ONE
    while bit:
        if left & bit:
            result ^= right
        right = (right >> 1) ^ _POLYNOMIAL if right & 1 else right >> 1
        bit >>= 1
    return result


def crc_from_wire(text: str | None) -> int | None:
    """OSS writes it as a decimal number. None where it names none."""
    return int(text) if text and text.isascii() and text.isdigit() and int(text) < 1 << 64 else None


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower()[len(META) :]: value for name, value in headers.items() if name.lower().startswith(META)}


def stat_of(headers: Mapping[str, str], key: str) -> ObjectStat:
    """From the head of a reply to HEAD. An object that was appended to since has another ETag."""
    etag, crc = headers.get("ETag"), crc_from_wire(headers.get(CRC_HEADER))
    name = key.rpartition("/")[2]
    return ObjectStat(
        size_bytes=int(headers["Content-Length"]),
        validator=Validator("etag", etag) if etag else Validator("none"),
        name=None if name in ("", ".", "..") else name,
        content_type=headers.get("Content-Type"),
        etag=etag,
        checksum=None if crc is None else f"crc64ecma:{crc:016x}",
        metadata=metadata_of(headers),
    )
