"""CRC-64/XZ of a whole object from those of its parts, and how a receipt carries it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from fastcrc.crc64 import xz

from orchestrator.records import pack_receipt, unpack_receipt
from providers.base import BytesBody
from providers.oss_proof import (
    CrcBody,
    combine,
    crc_from_wire,
    crc_of,
    etag_of,
    joined_crc,
    receipt_of,
    stat_of,
)
from providers.oss_sdk import oss2
from tests.contract.objects import noise, read_all

HEX = "0123456789ABCDEF0123456789ABCDEF"


@pytest.mark.parametrize("seed", range(20))
def test_joined_parts_have_the_checksum_of_the_whole(seed: int) -> None:
    dice = random.Random(seed)
    data = noise(300_000, seed)
    cuts = sorted({0, len(data), *dice.choices(range(len(data)), k=dice.randrange(8))})
    parts = [data[start:stop] for start, stop in pairwise(cuts)]

    receipts = [receipt_of(n, len(each), HEX, xz(each)) for n, each in enumerate(parts, 1)]

    assert joined_crc(receipts) == xz(data)


def test_empty_runs_change_nothing() -> None:
    assert combine(xz(b""), xz(b"abc"), 3) == xz(b"abc")
    assert combine(xz(b"abc"), xz(b""), 0) == xz(b"abc")


def test_the_sdk_joins_alike_what_would_be_too_large_to_read() -> None:
    theirs = oss2.utils.Crc64()
    for size_bytes in (1, 100 << 10, 5 << 30, 48 << 40):
        assert combine(xz(b"a"), xz(b"b"), size_bytes) == theirs.combine(xz(b"a"), xz(b"b"), size_bytes)


def test_a_body_sums_up_what_passes() -> None:
    body = CrcBody(BytesBody(noise(123_457)))

    assert read_all(body) == noise(123_457)
    assert body.crc == xz(noise(123_457))


@pytest.mark.parametrize("crc", [None, 0, 0x995DC9BBDF1939FA, (1 << 64) - 1])
def test_a_receipt_carries_the_etag_and_the_checksum_through_the_ledger(crc: int | None) -> None:
    receipt = receipt_of(7, 100, f'"{HEX}"', crc)

    stored = unpack_receipt(7, pack_receipt(receipt, b"12345678", 100), 100)

    assert stored == receipt
    assert (etag_of(stored), crc_of(stored)) == (HEX, crc)


def test_one_part_without_a_checksum_leaves_the_whole_without() -> None:
    assert joined_crc([receipt_of(1, 3, HEX, xz(b"abc")), receipt_of(2, 3, HEX, None)]) is None


@pytest.mark.parametrize("text", [None, "", "-1", "0x12", "1e3", "²", str(1 << 64)])
def test_what_is_no_checksum_is_none(text: str | None) -> None:
    assert crc_from_wire(text) is None


def test_a_stat_tells_the_stores_own_checksum() -> None:
    stat = stat_of({"Content-Length": "9", "ETag": '"E"', "x-oss-hash-crc64ecma": "11051210869376104954"}, "a/..")

    assert (stat.size_bytes, stat.checksum, stat.name) == (9, "crc64ecma:995dc9bbdf1939fa", None)
