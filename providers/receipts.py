"""The checks every store needs that has to put parts together by itself."""

from __future__ import annotations

from collections.abc import Sequence

from providers.base import PartReceipt
from providers.errors import InvalidPart


def in_order(receipts: Sequence[PartReceipt], size_bytes: int | None) -> list[PartReceipt]:
    """The receipts by number: 1 to n, no gap, none twice, together ``size_bytes`` if that is known.

    Raises InvalidPart.
    """
    ordered = sorted(receipts, key=lambda receipt: receipt.number)
    if not ordered or [receipt.number for receipt in ordered] != list(range(1, len(ordered) + 1)):
        raise InvalidPart(f"{len(ordered)} receipts are not the parts 1 to {len(ordered)}, each once")
    total = sum(receipt.size_bytes for receipt in ordered)
    if size_bytes is not None and total != size_bytes:
        raise InvalidPart(f"the receipts cover {total} bytes, the object has {size_bytes}")
    return ordered
