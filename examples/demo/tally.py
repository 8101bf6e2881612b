"""What the servers say was sent twice: parts and bytes, from access logs. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.servers.nginx import Request

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PART = re.compile(r"[?&]partNumber=(\d+)")


@dataclass(frozen=True, slots=True)
class Tally:
    """``parts_again`` were asked for or sent more than once; ``bytes_again`` is what passed beyond one whole copy."""

    parts: int
    parts_again: tuple[int, ...]
    bytes_again: int


def tally_reads(requests: Iterable[Request], size_bytes: int, part_bytes: int) -> Tally:
    """GETs of whole parts, by their Range header. The look at the first byte is none."""
    passed: dict[int, list[int]] = defaultdict(list)
    for each in requests:
        asked = _RANGE.fullmatch(each.range)
        if each.method == "GET" and asked and int(asked[2]) > 0:
            passed[int(asked[1]) // part_bytes + 1].append(each.body_bytes)
    return _tally(passed, size_bytes, part_bytes)


def tally_writes(requests: Iterable[Request], size_bytes: int, part_bytes: int) -> Tally:
    """PUTs of parts, by their number in the query. Heads of requests count as bytes too."""
    passed: dict[int, list[int]] = defaultdict(list)
    for each in requests:
        part = _PART.search(each.path)
        if each.method == "PUT" and part:
            passed[int(part[1])].append(each.received_bytes)
    return _tally(passed, size_bytes, part_bytes)


def _tally(passed: dict[int, list[int]], size_bytes: int, part_bytes: int) -> Tally:
    again = {number: sizes for number, sizes in passed.items() if len(sizes) > 1}
    once = {number: min(part_bytes, size_bytes - (number - 1) * part_bytes) for number in again}
    return Tally(len(passed), tuple(sorted(again)), sum(sum(again[number]) - once[number] for number in again))
