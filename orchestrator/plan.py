"""Size and limits -> parts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import overload

from providers.base import MIB, ByteRange, Part, PartLimits, UploadPlan
from providers.errors import InvalidValue, ObjectTooLarge

SMALLEST_DEFAULT_BYTES = 8 * MIB
LARGEST_DEFAULT_BYTES = 64 * MIB
DEFAULT_MAX_PARTS = 10_000
LEDGER_MAX_PARTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How an object is cut. Parts are computed, not stored: equal but the last, numbered from 1, no gaps.

    ``stream`` marks a source that can only be read once from the front; its parts run under one lease, and
    ``size_bytes`` is None where even the size is unknown.
    """

    size_bytes: int | None
    part_size_bytes: int
    part_count: int
    stream: bool = False

    def part(self, number: int) -> Part:
        """The part with this number; the one part of an empty object is empty."""
        if not 1 <= number <= self.part_count or self.size_bytes is None:
            raise ValueError(f"no part {number} in a plan of {self.part_count}")
        start = (number - 1) * self.part_size_bytes
        return Part(number, ByteRange(start, min(start + self.part_size_bytes, self.size_bytes)))

    @property
    def upload(self) -> UploadPlan:
        return UploadPlan(self.size_bytes, self.part_size_bytes, self.part_count)


class PlannedParts(Sequence[Part]):
    """The parts with these numbers, each made when it is asked for: of 10,000 mostly nobody asks."""

    def __init__(self, plan: Plan, numbers: Sequence[int]) -> None:
        self._plan = plan
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> PlannedParts: ...
    def __getitem__(self, index: int | slice) -> Part | PlannedParts:
        if isinstance(index, slice):
            return PlannedParts(self._plan, self._numbers[index])
        return self._plan.part(self._numbers[index])


def plan_parts(size_bytes: int, limits: PartLimits, *, part_size_bytes: int | None = None) -> Plan:
    """Cut ``size_bytes`` into parts the destination accepts. An empty object is one empty part.

    Without a wish: clamp(size / 2000, 8 MiB, 64 MiB), raised to fit the part limit. A wish is taken as it is or
    refused. Raises ObjectTooLarge, InvalidValue.
    """
    if size_bytes > limits.max_object_bytes:
        raise ObjectTooLarge("size_bytes", size_bytes, f"at most {limits.max_object_bytes} bytes at this destination")
    most_parts = min(limits.max_parts, LEDGER_MAX_PARTS)
    if part_size_bytes is not None:
        check_part_size(part_size_bytes, limits)
        wanted = part_size_bytes
        if limits.max_parts > 1 and ceil(size_bytes / wanted) > most_parts:
            least = ceil(size_bytes / most_parts)
            raise InvalidValue(
                "part_size", wanted, f"at least {least} bytes, so that there are at most {most_parts} parts"
            )
    else:
        fitting = ceil(size_bytes / min(most_parts, DEFAULT_MAX_PARTS))
        wanted = max(min(max(size_bytes // 2000, SMALLEST_DEFAULT_BYTES), LARGEST_DEFAULT_BYTES), fitting)
        wanted = min(max(_round_up(wanted), limits.min_part_bytes), limits.max_part_bytes)
        if limits.max_parts > 1 and ceil(size_bytes / wanted) > most_parts:
            # Stores name a largest object that is more than their parts can hold: 50 TiB, and 10,000 times 5 GiB.
            most = most_parts * limits.max_part_bytes
            raise ObjectTooLarge("size_bytes", size_bytes, f"at most {most} bytes in {most_parts} parts")
    if limits.max_parts == 1:
        wanted = max(size_bytes, 1)
    return Plan(size_bytes, wanted, max(1, ceil(size_bytes / wanted)))


def plan_stream(size_bytes: int | None, limits: PartLimits, *, part_size_bytes: int | None = None) -> Plan:
    """Plan for a source that is read once, front to back. The part count of an unsized one is not known yet (0)."""
    if size_bytes is not None:
        plan = plan_parts(size_bytes, limits, part_size_bytes=part_size_bytes)
        return Plan(size_bytes, plan.part_size_bytes, plan.part_count, stream=True)
    if part_size_bytes is not None:
        check_part_size(part_size_bytes, limits)
    if limits.max_parts == 1:
        raise InvalidValue("source", "unknown size", "a source of known size: this destination takes one PUT")
    return Plan(None, part_size_bytes or max(SMALLEST_DEFAULT_BYTES, limits.min_part_bytes), 0, stream=True)


def stream_part_size(number: int, first_bytes: int, limits: PartLimits) -> int:
    """Size of part ``number`` of an unsized stream: doubles every 500 parts from 8 to 64 MiB, then every 1,000.

    10,000 such parts hold about 4 TiB: the size is unknown until the end, so the first parts cannot be large.
    """
    doublings = min(number // 500, 3) + max(0, (number - 4000) // 1000)
    return int(min(first_bytes << doublings, limits.max_part_bytes))


def check_part_size(part_size_bytes: int, limits: PartLimits) -> None:
    """Raises InvalidValue unless parts of this size are accepted."""
    if not limits.min_part_bytes <= part_size_bytes <= limits.max_part_bytes and limits.max_parts > 1:
        allowed = f"{limits.min_part_bytes} to {limits.max_part_bytes} bytes"
        raise InvalidValue("part_size", part_size_bytes, allowed)


def _round_up(size_bytes: int) -> int:
    return ceil(size_bytes / MIB) * MIB
