"""Azure's words for parts: block ids, and the lists of blocks a blob holds or is made of; pure.

An id is base64 of the upload's name and the block's index in eight digits, counted from 0. Two uploads to one blob
share one set of uncommitted blocks there, so an id without the upload's name would let a block that another upload
left or sends late be committed as ours.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from providers.base import UploadId
from providers.errors import ResponseParseError, ResponseStatusError

_INDEX_DIGITS = 8
_NAME_CHARACTERS = 12
"""Three characters are four of base64: an id of ours ends in the base64 of its index alone."""
_LEAST_NAME_CHARACTERS = 8
_ENDED = 99_999_999
_BLOCK = re.compile(r"<Block>\s*<Name>([^<]+)</Name>\s*<Size>(\d+)</Size>\s*</Block>")
_LISTS = re.compile(r"<(Committed|Uncommitted)Blocks>(.*?)</\1Blocks>", re.DOTALL)
_WHOLE = re.compile(r"<BlockList\s*/>\s*\Z|</BlockList>\s*\Z")


@dataclass(frozen=True, slots=True)
class BlockLists:
    """Blocks at one blob: id -> size in bytes. Committed ones are in the order of the blob."""

    committed: Mapping[str, int] = field(default_factory=dict)
    uncommitted: Mapping[str, int] = field(default_factory=dict)


def block_id(index: int, upload: str = "") -> str:
    """``block_id(1)`` is ``MDAwMDAwMDE=``, and every id of an upload ends in what the index alone gives."""
    return base64.b64encode(f"{upload}{index:0{_INDEX_DIGITS}d}".encode()).decode()


def ended_id(upload: str) -> str:
    """A block that stands for the end of an upload: single uncommitted blocks cannot be removed."""
    return block_id(_ENDED, upload)


def index_of(name: str, upload: str) -> int | None:
    """The index of a block of this upload; None for any other id."""
    try:
        raw = base64.b64decode(name, validate=True).decode("ascii")
    except ValueError:
        return None
    digits = raw.removeprefix(upload)
    if raw != upload + digits or len(digits) != _INDEX_DIGITS or not digits.isdigit():
        return None
    return int(digits)


def new_upload(waiting: Mapping[str, int]) -> UploadId:
    """A name whose ids are as long as those that ``waiting`` blocks have: all ids at a blob have one length."""
    characters = _NAME_CHARACTERS
    for name in waiting:
        characters = _raw_bytes(name) - _INDEX_DIGITS
        break
    if characters < _LEAST_NAME_CHARACTERS:
        raise ResponseStatusError(
            "blocks of another tool with short ids wait at this blob: finish or delete it there, or wait a week"
        )
    return UploadId(secrets.token_hex(characters)[:characters])


def _raw_bytes(name: str) -> int:
    return len(name) // 4 * 3 - (len(name) - len(name.rstrip("=")))


def block_list_xml(ids: Sequence[str]) -> bytes:
    """The body of Put Block List."""
    latest = "".join(f"<Latest>{each}</Latest>" for each in ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{latest}</BlockList>'.encode()


def read_block_lists(xml: bytes, *, what: str) -> BlockLists:
    """From a reply to Get Block List. Raises ResponseParseError, also for one that was cut."""
    text = xml.decode("utf-8", errors="replace")
    if not _WHOLE.search(text):
        raise ResponseParseError(f"{what}: the reply is no whole block list")
    found = {kind: {name: int(size) for name, size in _BLOCK.findall(rows)} for kind, rows in _LISTS.findall(text)}
    return BlockLists(found.get("Committed", {}), found.get("Uncommitted", {}))
