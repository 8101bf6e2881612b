"""Checksums and ETags of an object joined from its parts, and what a HEAD tells."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given
from hypothesis import strategies as st

from providers.base import PartReceipt, Validator
from providers.s3_proof import crc_from_wire, crc_to_wire, joined_crc64nvme, joined_etag, stat_of

HEAD: dict[str, Any] = {"ContentLength": 7, "ETag": '"abc"', "ContentType": "text/plain", "Metadata": {"a": "b"}}


def receipt_of(number: int, body: bytes) -> PartReceipt:
    return PartReceipt(number, len(body), f'"{hashlib.md5(body).hexdigest()}"', crc64nvme(body))  # noqa: S324


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_the_joined_checksum_is_that_of_the_whole(bodies: list[bytes]) -> None:
    receipts = [receipt_of(number, body) for number, body in enumerate(bodies, 1)]

    assert joined_crc64nvme(receipts) == crc64nvme(b"".join(bodies))


def test_one_unknown_part_makes_the_whole_unknown() -> None:
    assert joined_crc64nvme([receipt_of(1, b"a"), PartReceipt(2, 1, '"x"')]) is None
    assert joined_crc64nvme([PartReceipt(1, 1, '"x"'), receipt_of(2, b"a")]) is None
    assert joined_crc64nvme([]) is None


def test_the_joined_etag_is_the_md5_of_the_md5s() -> None:
    digests = hashlib.md5(b"a").digest() + hashlib.md5(b"b").digest()  # noqa: S324

    joined = joined_etag([receipt_of(1, b"a"), receipt_of(2, b"b")])

    assert joined == f"{hashlib.md5(digests).hexdigest()}-2"  # noqa: S324


@pytest.mark.parametrize("etag", ["", '"opaque"', '"0123"', '"0123456789abcdef0123456789abcdef-2"'])
def test_no_etag_is_joined_from_parts_that_have_no_md5(etag: str) -> None:
    assert joined_etag([receipt_of(1, b"a"), PartReceipt(2, 1, etag)]) is None


def test_the_wire_form_is_that_of_the_specification() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888
    assert crc_to_wire(0xAE8B14860A799888) == "rosUhgp5mIg="
    assert crc_from_wire("rosUhgp5mIg=") == 0xAE8B14860A799888


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_a_checksum_survives_the_wire(crc: int) -> None:
    assert crc_from_wire(crc_to_wire(crc)) == crc


@pytest.mark.parametrize("text", [None, "", "AAAA", "rosUhgp5mIg=-3", "not base64", "rosUhgp5mIg=rosUhgp5mIg="])
def test_anything_else_is_no_checksum(text: str | None) -> None:
    assert crc_from_wire(text) is None


@pytest.mark.parametrize(
    ("extra", "validator"),
    [
        ({}, Validator("etag", '"abc"')),
        ({"VersionId": "null"}, Validator("etag", '"abc"')),
        ({"VersionId": "v1"}, Validator("version", "v1")),
        ({"ETag": 'W/"abc"'}, Validator("none")),
        ({"ETag": None}, Validator("none")),
    ],
)
def test_an_object_is_pinned_by_its_version_or_its_strong_etag(extra: dict[str, Any], validator: Validator) -> None:
    assert stat_of({**HEAD, **extra}, "folder/name").validator == validator


@pytest.mark.parametrize(
    ("extra", "checksum"),
    [
        ({"ChecksumCRC64NVME": "rosUhgp5mIg=", "ChecksumType": "FULL_OBJECT"}, "crc64nvme:ae8b14860a799888"),
        ({"ChecksumCRC64NVME": "rosUhgp5mIg="}, "crc64nvme:ae8b14860a799888"),
        ({"ChecksumCRC64NVME": "rosUhgp5mIg=", "ChecksumType": "COMPOSITE"}, None),
        ({"ChecksumSHA256": "x"}, None),
        ({}, None),
    ],
)
def test_only_a_checksum_of_the_full_object_counts(extra: dict[str, str], checksum: str | None) -> None:
    assert stat_of({**HEAD, **extra}, "k").checksum == checksum


@pytest.mark.parametrize(("key", "name"), [("a/b/c.bin", "c.bin"), ("c", "c"), ("a/", None), ("a/..", None)])
def test_the_name_is_the_last_segment_of_the_key(key: str, name: str | None) -> None:
    assert stat_of(HEAD, key).name == name
