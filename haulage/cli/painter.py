"""Keeps a few lines at the bottom of a terminal up to date, also while its size changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click
from rich.text import Text

from haulage.cli.bar import PLAIN_MARKS, Frame, Marks, frame_lines
from haulage.cli.output import console, human_bytes, is_live, printable, terminal_width

_CLEAR_BELOW = "\x1b[J"


class Painter:
    """Paints frames over each other on stderr.

    No refresh thread and no signal handler: whoever follows a transfer paints at every look, and the size is asked
    each time. The cursor stays visible: a command that is killed could not show it again. A terminal that became
    narrower has wrapped the old lines, so the cursor goes up as many rows as they take now.
    """

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._painted: list[int] = []
        encoding = (sys.stderr.encoding or "").lower().replace("-", "")
        self._marks = Marks() if encoding.startswith("utf") else PLAIN_MARKS

    def show(self, frame: Frame) -> None:
        width = terminal_width(sys.stderr)
        lines = frame_lines(frame, max(1, width - 1), self._marks)
        self._write(self._back(width) + self._ansi(lines))
        self._painted = [each.cell_len for each in lines]

    def say(self, text: str) -> None:
        """A line that stays, above what is painted."""
        self.clear()
        click.echo(text, err=True)

    def clear(self) -> None:
        """Remove what is painted."""
        if self._painted:
            self._write(self._back(terminal_width(sys.stderr)))
            self._painted = []

    def _back(self, width: int) -> str:
        rows = sum(max(1, -(-cells // max(1, width))) for cells in self._painted)
        return (f"\x1b[{rows}A" if rows else "") + "\r" + _CLEAR_BELOW

    def _ansi(self, lines: Sequence[Text]) -> str:
        with self._console.capture() as captured:
            for each in lines:
                self._console.print(each)
        return captured.get()

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class Teller:
    """For what is no terminal: a line for each phrase that lasts, and one now and then while bytes move."""

    _LASTS_SECONDS = 1.0
    _EVERY_SECONDS = 30.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard = ("", 0.0)
        self._said = ""
        self._at = clock()

    def show(self, frame: Frame) -> None:
        now, phrase = self._clock(), frame.phrase.partition(", next try")[0]
        if phrase != self._heard[0]:
            self._heard = (phrase, now)
        lasts = now - self._heard[1] >= self._LASTS_SECONDS
        if phrase and phrase != self._said and lasts:
            self._said = phrase
            text = frame.phrase
        elif frame.progress.part_count and now - self._at >= self._EVERY_SECONDS:
            progress = frame.progress
            text = f"{human_bytes(progress.received_bytes)} of {human_bytes(progress.total_bytes)}"
            text += f", parts {progress.parts_done}/{progress.part_count}"
        else:
            return
        self._at = now
        click.echo(f"{printable(frame.name)}: {text}", err=True)

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def clear(self) -> None:
        return


class Silence:
    """``--quiet``."""

    def show(self, frame: Frame) -> None:
        return

    def say(self, text: str) -> None:
        return

    def clear(self) -> None:
        return


Screen = Painter | Teller | Silence


def screen(*, quiet: bool, clock: Callable[[], float]) -> Screen:
    """What fits stderr."""
    if quiet:
        return Silence()
    return Painter() if is_live(sys.stderr) else Teller(clock)
