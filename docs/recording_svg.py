"""Turns screens of a terminal into one SVG that plays by itself, and shows its end where nothing may or can move."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

_CELL_WIDTH, _LINE_HEIGHT, _MARGIN, _BAR = 8.4, 18, 12, 26
_LONGEST_SECONDS = 1.0
_SPEED = 2.0
"""The film runs this much faster than the terminal did."""
_INK, _PAPER = "#d6deeb", "#10141c"
_COLORS = {
    "black": "#5c6370",
    "red": "#ff6b6b",
    "green": "#7bd88f",
    "brown": "#e5c07b",
    "yellow": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c792ea",
    "cyan": "#56d4dd",
    "white": _INK,
    "brightblack": "#7f8796",
}


@dataclass(slots=True)
class _Frame:
    lines: tuple[str, ...]
    seconds: float


class Film:
    """Frames in order; one that shows what the last one did only makes that one longer."""

    def __init__(self, columns: int, rows: int) -> None:
        self._width = columns * _CELL_WIDTH + 2 * _MARGIN
        self._height = rows * _LINE_HEIGHT + 2 * _MARGIN + _BAR
        self._frames: list[_Frame] = []

    def add(self, screen: Any, seconds: float) -> None:
        """What a pyte screen shows now, for so long in the terminal."""
        seconds /= _SPEED
        lines = tuple(_line(screen, row) for row in range(screen.lines))
        if self._frames and self._frames[-1].lines == lines:
            self._frames[-1].seconds = min(_LONGEST_SECONDS, self._frames[-1].seconds + seconds)
        else:
            self._frames.append(_Frame(lines, seconds))

    def hold(self, seconds: float) -> None:
        """Show the last frame for so long in the film."""
        self._frames[-1].seconds = seconds

    def svg(self) -> str:
        """Frames stand side by side in a strip that moves in steps; equal lines are kept once.

        The end comes first: it is what a preview shows, and a film that begins again goes on from it.
        """
        frames = [*self._frames[-1:], *self._frames[:-1]]
        known: dict[str, str] = {}
        groups = []
        for number, frame in enumerate(frames):
            uses = []
            for row, line in enumerate(frame.lines):
                if line:
                    name = known.setdefault(line, f"l{len(known)}")
                    uses.append(f'<use href="#{name}" y="{(row + 1) * _LINE_HEIGHT}"/>')
            groups.append(f'<g transform="translate({number * self._width:g})">{"".join(uses)}</g>')
        lines = "".join(f'<text id="{name}">{line}</text>' for line, name in known.items())
        return _SVG.format(
            width=f"{self._width:g}",
            height=self._height,
            dots="".join(f'<circle cx="{16 + 16 * at}" cy="14" r="5"/>' for at in range(3)),
            paper=_PAPER,
            ink=_INK,
            top=_BAR,
            margin=_MARGIN,
            keyframes=self._keyframes(frames),
            seconds=f"{sum(frame.seconds for frame in frames):.2f}",
            lines=lines,
            frames="".join(groups),
        )

    def _keyframes(self, frames: list[_Frame]) -> str:
        total, at, steps = sum(frame.seconds for frame in frames), 0.0, []
        for number, frame in enumerate(frames):
            steps.append(f"{at / total:.3%}{{transform:translateX({-number * self._width:g}px)}}")
            at += frame.seconds
        steps.append(f"100%{{transform:translateX({-(len(frames) - 1) * self._width:g}px)}}")
        return "".join(steps)


def _line(screen: Any, row: int) -> str:
    """One row as tspans, each as wide as its cells whatever the font."""
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    while cells and cells[-1].data == " " and not cells[-1].reverse:
        cells.pop()
    spans, column = [], 0
    for (color, bold), run in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in run)
        if text.strip():
            spans.append(_span(text, column, color, bold))
        column += len(text)
    return "".join(spans)


def _span(text: str, column: int, color: str, bold: bool) -> str:
    fill = _COLORS.get(color) or (f"#{color}" if len(color) == 6 and color != "default" else "")
    style = (f' fill="{fill}"' if fill else "") + (' font-weight="bold"' if bold else "")
    return (
        f'<tspan x="{column * _CELL_WIDTH:g}" textLength="{len(text) * _CELL_WIDTH:g}"{style}>'
        f"{escape(text, quote=False).replace(' ', chr(0xA0))}</tspan>"
    )


_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<title>haulage cp is killed in the middle, run again, and goes on</title>
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: {ink}; }}
#film {{ animation: play {seconds}s steps(1, end) infinite; }}
@keyframes play {{ {keyframes} }}
@media (prefers-reduced-motion: reduce) {{ #film {{ animation: none; }} }}
</style>
<defs>{lines}</defs>
<rect width="{width}" height="{height}" rx="8" fill="{paper}"/>
<g fill="#3a4252">{dots}</g>
<svg x="{margin}" y="{top}" width="{width}" height="{height}"><g id="film">{frames}</g></svg>
</svg>
"""
