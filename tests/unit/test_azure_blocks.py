"""Ids of blocks, and the lists that Azure gives and takes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import plan_parts
from providers.azure_blocks import block_id, block_list_xml, ended_id, index_of, new_upload, read_block_lists
from providers.base import MIB
from providers.errors import ObjectTooLarge, ResponseParseError, ResponseStatusError
from providers.schemes import AZURE_LIMITS

LISTS = (
    b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><BlockList><CommittedBlocks>'
    b"<Block><Name>Yg==</Name><Size>3</Size></Block><Block><Name>YQ==</Name><Size>4194304000</Size></Block>"
    b"</CommittedBlocks><UncommittedBlocks>\n <Block>\n<Name>Yw==</Name>\n<Size>1</Size></Block> </UncommittedBlocks>"
    b"</BlockList>"
)


@pytest.mark.parametrize(("index", "name"), [(0, "MDAwMDAwMDA="), (1, "MDAwMDAwMDE="), (49_999, "MDAwNDk5OTk=")])
def test_an_id_is_base64_of_the_index_in_eight_digits(index: int, name: str) -> None:
    assert block_id(index) == name
    assert block_id(index, "0123456789ab") == base64.b64encode(b"0123456789ab").decode() + name


@given(st.integers(0, 49_999), st.integers(0, 49_999), st.integers(8, 40))
def test_ids_of_an_upload_are_of_one_length_and_only_its_own(one: int, other: int, characters: int) -> None:
    upload, another = "0123456789" * 4, "x123456789" * 4
    upload, another = upload[:characters], another[:characters]

    assert len(block_id(one, upload)) == len(block_id(other, upload)) == len(ended_id(upload))
    assert index_of(block_id(one, upload), upload) == one
    assert index_of(block_id(one, another), upload) is None
    assert (block_id(one, upload) == block_id(other, upload)) is (one == other)


@pytest.mark.parametrize("foreign", ["", "YQ==", "no base64!", "/////w==", block_id(1), base64.b64encode(b"z" * 48)])
def test_ids_of_other_tools_are_nobodys(foreign: str | bytes) -> None:
    name = foreign if isinstance(foreign, str) else foreign.decode()

    assert index_of(name, "0123456789ab") is None


@pytest.mark.parametrize("raw_bytes", [16, 17, 18, 20, 48, 64])
def test_a_new_upload_takes_the_length_of_ids_that_wait_already(raw_bytes: int) -> None:
    waiting = base64.b64encode(b"x" * raw_bytes).decode()

    upload = new_upload({waiting: 1})

    assert len(base64.b64decode(block_id(0, upload))) == raw_bytes
    assert upload != new_upload({waiting: 1})


def test_ids_too_short_for_a_name_are_said_to_be_in_the_way() -> None:
    with pytest.raises(ResponseStatusError, match="short ids"):
        new_upload({block_id(0): 1})


def test_lists_are_read_in_the_order_of_the_blob() -> None:
    lists = read_block_lists(LISTS, what="x")

    assert list(lists.committed.items()) == [("Yg==", 3), ("YQ==", 4_194_304_000)]
    assert lists.uncommitted == {"Yw==": 1}


@pytest.mark.parametrize("body", [b"<BlockList />", b"<BlockList><CommittedBlocks /></BlockList>\n"])
def test_a_list_may_be_empty(body: bytes) -> None:
    lists = read_block_lists(body, what="x")

    assert (lists.committed, lists.uncommitted) == ({}, {})


@pytest.mark.parametrize("body", [b"", b"<html>", LISTS[:-1], LISTS[:150], b"\xff\xfe"])
def test_a_list_that_was_cut_is_not_believed(body: bytes) -> None:
    with pytest.raises(ResponseParseError):
        read_block_lists(body, what="x")


def test_the_list_to_commit_names_each_id_in_order() -> None:
    assert block_list_xml(["Yg==", "YQ=="]) == (
        b'<?xml version="1.0" encoding="utf-8"?><BlockList><Latest>Yg==</Latest><Latest>YQ==</Latest></BlockList>'
    )


def test_an_object_of_50000_blocks_of_4000_mib_is_planned_and_one_byte_more_refused() -> None:
    largest = 50_000 * 4000 * MIB

    plan = plan_parts(largest, AZURE_LIMITS)

    assert (plan.part_count, plan.part_size_bytes) == (50_000, 4000 * MIB)
    with pytest.raises(ObjectTooLarge):
        plan_parts(largest + 1, AZURE_LIMITS)
