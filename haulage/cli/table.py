"""Rows that fit a width: columns that matter least are left out first, and long names lose their beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.text import Text

_GAP = 2
_LEAST_NAME = 18


@dataclass(frozen=True, slots=True)
class Column:
    """``grow``: a name that shares what room is left. ``drop``: from 1, the highest leaves first; 0 stays."""

    title: str
    right: bool = False
    grow: bool = False
    drop: int = 0


Cell = tuple[str, str]
"""Text and its rich style."""


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[Text]:
    """The title row and ``rows`` as lines of at most ``width`` cells."""
    kept = _fitting(columns, rows, width)
    widths = _widths(columns, rows, kept, width)
    title: list[Cell] = [(each.title, "bold") for each in columns]
    return [_line(columns, row, kept, widths, width) for row in [title, *rows]]


def keep_end(text: str, width: int) -> str:
    """``…/last/part.bin``: the end of a path says more than its beginning."""
    if cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    tail = text
    while cell_len(tail) > width - 1:
        tail = tail[max(1, (cell_len(tail) - width + 1) // 2) :]
    return "…" + tail


def keep_start(text: str, width: int) -> str:
    """``first part…``."""
    if cell_len(text) <= width:
        return text
    return chop_cells(text, width - 1)[0] + "…" if width > 1 else "…"[:width]


def _natural(rows: Sequence[Sequence[Cell]], column: Column, index: int) -> int:
    return max([cell_len(column.title), *(cell_len(row[index][0]) for row in rows)])


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    kept = list(range(len(columns)))

    def needed() -> int:
        each = (
            min(_LEAST_NAME, _natural(rows, columns[at], at)) if columns[at].grow else _natural(rows, columns[at], at)
            for at in kept
        )
        return sum(each) + _GAP * (len(kept) - 1)

    while needed() > width and (loose := [at for at in kept if columns[at].drop]):
        kept.remove(max(loose, key=lambda at: columns[at].drop))
    return kept


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: Sequence[int], width: int
) -> dict[int, int]:
    natural = {at: _natural(rows, columns[at], at) for at in kept}
    growing = [at for at in kept if columns[at].grow]
    room = width - _GAP * (len(kept) - 1) - sum(natural[at] for at in kept if at not in growing)
    for left, at in zip(range(len(growing), 0, -1), sorted(growing, key=lambda at: natural[at]), strict=True):
        natural[at] = max(1, min(natural[at], room // left))
        room -= natural[at]
    return natural


def _line(
    columns: Sequence[Column], row: Sequence[Cell], kept: Sequence[int], widths: dict[int, int], width: int
) -> Text:
    text = Text()
    for place, at in enumerate(kept):
        shown, style = row[at]
        shown = keep_end(shown, widths[at]) if columns[at].grow else shown
        pad = " " * (widths[at] - cell_len(shown))
        last = place == len(kept) - 1
        text.append(" " * _GAP if place else "")
        text.append(pad + shown if columns[at].right else shown, style)
        text.append("" if columns[at].right or last else pad)
    text.truncate(width, overflow="ellipsis")
    return text
