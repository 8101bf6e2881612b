"""The lines that tell how far a transfer is, for any width from 30 columns on."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from haulage.cli.output import human_bytes, human_seconds, printable
from haulage.cli.table import keep_end, keep_start
from orchestrator.progress import Progress

_LEAST_BAR = 10
_LEAST_NAME, _MOST_NAME = 8, 28


@dataclass(frozen=True, slots=True)
class Marks:
    """What the bar is drawn with: stored, in flight, missing."""

    stored: str = "━"
    flying: str = "╍"
    missing: str = "─"
    dot: str = " · "


PLAIN_MARKS = Marks("#", "=", "-", ", ")
"""For terminals that know ASCII only."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown at one moment."""

    name: str
    progress: Progress
    retries: int
    phrase: str


def frame_lines(frame: Frame, width: int, marks: Marks) -> list[Text]:
    """Two or three lines of at most ``width`` cells: the bar, the counts, and what holds it."""
    lines = [_bar_line(frame, width, marks), _count_line(frame, width, marks)]
    if frame.phrase:
        lines.append(Text(keep_start("  " + frame.phrase, width), "yellow"))
    return lines


def bar(progress: Progress, width: int, marks: Marks) -> Text:
    """``width`` cells: what has receipts, what is in flight, what is missing."""
    total = progress.total_bytes or 0
    stored = int(width * progress.ratio)
    received = max(stored, int(width * min(1.0, progress.received_bytes / total))) if total else stored
    text = Text(marks.stored * stored, "green")
    text.append(marks.flying * (received - stored), "cyan")
    return text.append(marks.missing * (width - received), "bright_black")


def percent(progress: Progress) -> str:
    """By received bytes; two dashes while the total is unknown."""
    if progress.total_bytes is None or not progress.part_count:
        return "--%"
    if progress.total_bytes == 0:
        return f"{progress.ratio * 100:.0f}%"
    return f"{min(100, int(100 * progress.received_bytes / progress.total_bytes))}%"


def rate(progress: Progress) -> str:
    """``12.3 MiB/s``; a dash until two looks have told."""
    if not progress.smoothed_bytes_per_second:
        return "-"
    return f"{human_bytes(progress.smoothed_bytes_per_second)}/s"


def _bar_line(frame: Frame, width: int, marks: Marks) -> Text:
    progress = frame.progress
    tail = f" {percent(progress):>4} {rate(progress):>12}  {human_seconds(progress.eta_seconds):>7}"
    room = min(_MOST_NAME, width - len(tail) - _LEAST_BAR - 1)
    name = keep_end(printable(frame.name), room) if room >= _LEAST_NAME else ""
    line = Text(f"{name} " if name else "", "bold")
    line.append_text(bar(progress, max(0, width - line.cell_len - len(tail)), marks))
    line.append(tail)
    line.truncate(width)
    return line


def _count_line(frame: Frame, width: int, marks: Marks) -> Text:
    progress = frame.progress
    flying = progress.received_bytes - progress.durable_bytes
    total = human_bytes(progress.total_bytes) if progress.total_bytes is not None else "?"
    facts = [f"{human_bytes(progress.durable_bytes)} of {total} stored"]
    if flying > 0:
        facts.append(f"{human_bytes(flying)} in flight")
    if progress.part_count:
        facts.append(f"parts {progress.parts_done}/{progress.part_count}")
    if frame.retries:
        facts.append(f"{frame.retries} {'retry' if frame.retries == 1 else 'retries'}")
    text = "  " + facts[0]
    for fact in facts[1:]:
        if len(text) + len(marks.dot) + len(fact) <= width:
            text += marks.dot + fact
    return Text(keep_start(text, width), "bright_black" if not frame.retries else "")
