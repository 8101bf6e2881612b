"""Receipts are packed small and come back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import LedgerCorrupt
from orchestrator.plan import Plan
from orchestrator.records import Lease, Outcome, Record, pack_receipt, unpack_receipt
from providers.base import PartReceipt, Validator

TAG = bytes(range(8))
MD5 = "9e107d9d372bb6826bd81d3542a419d6"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
hex_etags = st.binary(min_size=16, max_size=16).map(bytes.hex)
etags = st.one_of(texts, hex_etags, hex_etags.map(str.upper), hex_etags.map('"{}"'.format), texts.map('"{}"'.format))
sizes = st.integers(0, 2**63)


@given(st.integers(1, 10_000), sizes, etags, st.none() | st.integers(0, 2**64 - 1), st.none() | sizes, st.booleans())
def test_every_receipt_comes_back_as_it_was(
    number: int, size: int, etag: str, crc: int | None, other: int | None, planned: bool
) -> None:
    receipt, plan = PartReceipt(number, size, etag, crc), size if planned else other

    packed = pack_receipt(receipt, TAG, plan)

    assert packed[:8] == TAG
    assert unpack_receipt(number, packed, plan) == receipt


@pytest.mark.parametrize("etag", ['W/"abc"', '"', '""', '"abc', 'abc"', f'"{MD5}"', f'W/"{MD5}"', ""])
def test_odd_etags_keep_every_quote(etag: str) -> None:
    receipt = PartReceipt(1, 10, etag, None)

    assert unpack_receipt(1, pack_receipt(receipt, TAG, 10), 10) == receipt


def test_the_common_receipt_takes_33_bytes() -> None:
    assert len(pack_receipt(PartReceipt(1, 10, f'"{MD5}"', 7), TAG, 10)) == 33
    assert len(pack_receipt(PartReceipt(1, 10, f'"{MD5}"', None), TAG, 10)) == 25


@pytest.mark.parametrize(
    "packed", [b"", TAG, TAG + b"\x01abc", TAG + b"\x02abc", TAG + b"\x00\xff\xfe"], ids=lambda each: each.hex()
)
def test_a_damaged_receipt_is_named_not_guessed_at(packed: bytes) -> None:
    with pytest.raises(LedgerCorrupt, match="part 7"):
        unpack_receipt(7, packed, 10)


def test_a_receipt_without_a_size_needs_the_plans() -> None:
    packed = pack_receipt(PartReceipt(1, 10, "e", None), TAG, 10)

    with pytest.raises(LedgerCorrupt, match="no size"):
        unpack_receipt(1, packed, None)


def test_the_tag_of_a_receipt_is_the_random_half_of_the_token() -> None:
    lease = Lease("s0-1", "3", "17.0123456789abcdef", 1, 0, 1)

    assert lease.tag == bytes.fromhex("0123456789abcdef")
    assert lease.part_number == 3


def test_a_record_never_shows_its_fields() -> None:
    assert "hunter2" not in repr(Record("s0-1", {"spec": '{"source": "https://h/?sig=hunter2"}'}))


def test_a_record_reads_its_plan_and_its_pin() -> None:
    record = Record("s0-1", {"state": "running", "size": "25", "part_size": "10", "n": "3", "validator": "etag:x"})

    assert record.plan == Plan(25, 10, 3)
    assert record.validator == Validator.decode("etag:x")
    assert (record.session, record.number("nothing"), record.data("nothing")) == (None, 0, {})


def test_a_record_without_a_plan_has_an_empty_one() -> None:
    assert Record("s0-1", {"state": "queued"}).plan == Plan(None, 0, 0)


@pytest.mark.parametrize(
    ("fields", "over"),
    [
        ({"state": "running"}, False),
        ({"state": "completed"}, True),
        ({"state": "failed"}, True),
        ({"state": "cancelled", "cleanup": "done"}, True),
        ({"state": "cancelled", "cleanup": "pending"}, False),
        ({"state": "cancelled", "cleanup": "pending", "told": "1"}, True),
    ],
)
def test_a_cancelled_transfer_is_over_once_that_was_announced(fields: dict[str, str], over: bool) -> None:
    assert Record("s0-1", fields).over is over


def test_only_what_counted_can_be_the_last_part() -> None:
    assert Outcome("again", "running", 3, 3).last
    assert not Outcome("ok", "running", 2, 3).last
    assert not Outcome("fenced", "running").last
