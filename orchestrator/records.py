"""Values the ledger hands out, and how receipts are packed into it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import InvalidSpec, LedgerCorrupt
from orchestrator.plan import Plan
from orchestrator.spec import SCHEMA, TransferSpec, load_spec
from orchestrator.states import State
from providers.base import PartReceipt, UploadId, Validator

_HAS_CRC, _HAS_SIZE, _HEX_ETAG, _QUOTED = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one part (or on ``prep``, ``fin``, ``abort``) until it is not renewed any more."""

    transfer_id: str
    member: str
    token: str
    attempt: int
    elapsed_ms: int
    """Since the first attempt began, on the server's clock; for the elapsed retry budget."""
    epoch: int
    next_seq: int = 0
    session_no: int = 0

    @property
    def part_number(self) -> int:
        return int(self.member)

    @property
    def tag(self) -> bytes:
        """The token's random 64 bits, stored with the receipt."""
        return bytes.fromhex(self.token.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class Later:
    """All that is left backs off; above a second the lane gives up its ticket."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class Full:
    """As many parts as allowed are leased already."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Nothing is left for this lane."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Old epoch, round or ticket, or the transfer does not run."""

    why: str


Claim = Lease | Later | Full | Drained | Stop


@dataclass(frozen=True, slots=True)
class Armed:
    """A round to publish: one lane task per ticket, then ``complete`` as the chord's body."""

    epoch: int
    round_no: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Record:
    """One transfer as the ledger has it. ``spec`` may hold a signed URL: never print a record."""

    transfer_id: str
    fields: Mapping[str, str] = field(repr=False)

    @property
    def spec(self) -> TransferSpec:
        if int(self.fields.get("schema", "0")) != SCHEMA:
            raise LedgerCorrupt(f"transfer {self.transfer_id} has schema {self.fields.get('schema')}, this is {SCHEMA}")
        try:
            return load_spec(self.fields["spec"])
        except InvalidSpec as exc:
            raise LedgerCorrupt(f"transfer {self.transfer_id} was submitted by another version: {exc}") from None

    @property
    def state(self) -> State:
        return State(self.fields["state"])

    @property
    def plan(self) -> Plan:
        size = self.fields.get("size", "")
        return Plan(
            size_bytes=int(size) if size else None,
            part_size_bytes=self.number("part_size"),
            part_count=self.number("n"),
            stream=self.fields.get("stream") == "1",
        )

    @property
    def validator(self) -> Validator:
        return Validator.decode(self.fields.get("validator", "none:"))

    @property
    def session(self) -> UploadId | None:
        text = self.fields.get("session", "")
        return UploadId(text) if text else None

    @property
    def over(self) -> bool:
        """Ended, and its last event is written: a cancel is announced after the first try to clean up."""
        return self.state.ended and (
            self.state is not State.CANCELLED or self.fields.get("cleanup") != "pending" or self.number("told") > 0
        )

    def number(self, name: str) -> int:
        """An integer field; 0 when it is not set."""
        return int(self.fields.get(name) or 0)

    def data(self, name: str) -> dict[str, Any]:
        """A JSON field; empty when it is not set."""
        text = self.fields.get(name)
        return dict(json.loads(text)) if text else {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``finish`` answered. ``fenced`` and ``dead`` mean: it did not count."""

    answer: str
    state: str
    done: int = 0
    part_count: int = 0
    damaged: bool = False
    live_leases: int = 0

    @property
    def counted(self) -> bool:
        return self.answer in ("ok", "again")

    @property
    def last(self) -> bool:
        """Every part has its receipt. What ``release`` answers counts no parts, and is never the last."""
        return self.counted and 0 < self.part_count == self.done


def pack_receipt(receipt: PartReceipt, tag: bytes, planned_bytes: int | None) -> bytes:
    """26 to 34 bytes for the common case: tag, flags, CRC, MD5-shaped etag. The size only if it is not the plan's."""
    flags, tail, bare = 0, b"", receipt.etag
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        flags, bare = _QUOTED, bare[1:-1]
    if receipt.crc64nvme is not None:
        flags |= _HAS_CRC
        tail += struct.pack(">Q", receipt.crc64nvme)
    if receipt.size_bytes != planned_bytes:
        flags |= _HAS_SIZE
        tail += struct.pack(">Q", receipt.size_bytes)
    if len(bare) == 32 and all(char in "0123456789abcdef" for char in bare):
        return tag + bytes([flags | _HEX_ETAG]) + tail + bytes.fromhex(bare)
    return tag + bytes([flags]) + tail + bare.encode()


def unpack_receipt(number: int, packed: bytes, planned_bytes: int | None) -> PartReceipt:
    """The inverse of ``pack_receipt``. Raises LedgerCorrupt."""
    try:
        flags, at, crc, size = packed[8], 9, None, planned_bytes
        if flags & _HAS_CRC:
            (crc,) = struct.unpack_from(">Q", packed, at)
            at += 8
        if flags & _HAS_SIZE:
            (size,) = struct.unpack_from(">Q", packed, at)
            at += 8
        etag = packed[at:].hex() if flags & _HEX_ETAG else packed[at:].decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise LedgerCorrupt(f"the receipt of part {number} cannot be read") from None
    if flags & _QUOTED:
        etag = f'"{etag}"'
    if size is None:
        raise LedgerCorrupt(f"the receipt of part {number} has no size")
    return PartReceipt(number, size, etag, crc)
