"""``watch``: all transfers on a full screen, until q."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from haulage.cli.options import filter_options, given
from haulage.cli.output import console, errors_as_sentences, human_bytes, is_live, open_client
from orchestrator.states import State

if TYPE_CHECKING:
    from rich.text import Text

    from orchestrator.client import TransferClient
    from orchestrator.views import Transfer

_MOST = 500
"""Of those at work, and of all: more than anybody scrolls through."""
_ORDER = (
    State.RUNNING,
    State.WAITING,
    State.COMPLETING,
    State.PREPARING,
    State.QUEUED,
    State.PAUSED,
    State.FAILED,
    State.COMPLETED,
    State.CANCELLED,
)
_MOVING = (State.RUNNING, State.WAITING)
_AT_WORK = (*_MOVING, State.COMPLETING, State.PREPARING)
_SHARE = 10
"""A ledger of very many transfers takes its time to be read: leave it alone for as many times as long."""


@click.command()
@filter_options
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds.")
@errors_as_sentences
def watch(interval: float, **filters: Any) -> None:
    """Watch all transfers on a full screen: those that move first. Up and down scroll, q leaves.

    \b
    haulage watch
    haulage watch --state running --tenant blue
    """
    if not (is_live(sys.stdout) and sys.stdin.isatty()):
        raise click.UsageError("watch needs a terminal; haulage ls and haulage events do without")
    with open_client() as client:
        view = View(client, given(filters))
        with _full_screen(), _keys() as stdin:
            _loop(view, stdin, interval)


class View:
    """What is on the screen."""

    def __init__(self, client: TransferClient, filters: dict[str, Any], *, most: int = _MOST) -> None:
        self._client = client
        self._filters = filters
        self._most = most
        self._transfers: list[Transfer] = []
        self._more = False
        self.top = 0

    def look(self) -> None:
        """Read the ledger: all at work, the newest of the others, and closer those that move."""
        from orchestrator.errors import TransferNotFound

        newest = self._client.list(**self._filters, limit=self._most)
        self._more = len(newest) == self._most
        # Those at work are often the oldest: behind many that wait for them.
        older = self._client.list(**{"state": _AT_WORK, **self._filters}, limit=self._most) if self._more else []
        found = list({each.transfer_id: each for each in [*newest, *older]}.values())
        found.sort(key=lambda each: _ORDER.index(each.state))  # keeps the newest first within a state
        for at, each in enumerate(found):
            if each.state not in _MOVING:
                continue
            with suppress(TransferNotFound):
                found[at] = self._client.get(each.transfer_id)  # with its rate
        self._transfers = found

    def lines(self, width: int, height: int) -> list[Text]:
        """Exactly ``height`` lines of at most ``width`` cells."""
        from rich.text import Text

        from haulage.cli.rows import WATCHED, watched
        from haulage.cli.table import keep_start, lay_out

        room = max(1, height - 4)
        self.top = max(0, min(self.top, len(self._transfers) - room))
        shown = self._transfers[self.top : self.top + room]
        table = lay_out(WATCHED, [watched(each, self._client.settings.host) for each in shown], width)
        lines = [Text(keep_start(self._headline(), width), "bold"), Text(), *table]
        if not self._transfers:
            lines.append(Text("no transfers yet: haulage cp, haulage submit", "bright_black"))
        lines = lines[: height - 1] + [Text()] * (height - 1 - len(lines))
        return [*lines, Text(keep_start(self._footer(len(shown)), width), "bright_black")]

    def _headline(self) -> str:
        counts = Counter(each.state for each in self._transfers)
        more = "+" if self._more else ""
        told = [f"{counts[each]}{'' if each in _AT_WORK else more} {each}" for each in _ORDER if counts[each]]
        rate = sum(each.progress.smoothed_bytes_per_second for each in self._transfers)
        return f"haulage  {human_bytes(rate)}/s  " + ", ".join(told)

    def _footer(self, shown: int) -> str:
        rest = len(self._transfers) - shown
        return f"q leaves{f', up and down scroll: {rest} more' if rest else ''}"


def _loop(view: View, stdin: int, interval: float) -> None:
    out = console()
    due, size = 0.0, (0, 0)
    while True:
        now, was = time.monotonic(), size
        size = _size()
        if now >= due:
            view.look()
            due = time.monotonic() + max(interval, _SHARE * (time.monotonic() - now))
        _paint(out, view.lines(size[0], size[1]), clear=size != was)
        pressed = _pressed(stdin, min(0.25, max(0.0, due - time.monotonic())))
        if pressed in ("q", "Q", "\x03", "\x04"):
            return
        view.top += {"k": -1, "\x1b[A": -1, "j": 1, "\x1b[B": 1, "\x1b[5~": -10, "\x1b[6~": 10}.get(pressed, 0)


def _paint(out: Any, lines: Sequence[Text], *, clear: bool) -> None:
    """Each line over the old one, so that nothing flickers; all anew after a resize."""
    with out.capture() as captured:
        for at, each in enumerate(lines):
            out.print(each, end="\x1b[K" if at == len(lines) - 1 else "\x1b[K\r\n")
    sys.stdout.write(("\x1b[2J" if clear else "") + "\x1b[H" + captured.get())
    sys.stdout.flush()


def _pressed(stdin: int, seconds: float) -> str:
    """The key that was pressed, or nothing after a while; a terminal that is gone counts as q."""
    readable, _, _ = select.select([stdin], [], [], seconds)
    if not readable:
        return ""
    return os.read(stdin, 16).decode("latin-1") or "q"


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(sys.stdout.fileno())
    return max(20, size.columns or 80), max(6, size.lines or 24)


@contextmanager
def _full_screen() -> Iterator[None]:
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


@contextmanager
def _keys() -> Iterator[int]:
    """Keys one by one, without echo; Ctrl-C still interrupts."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        yield stdin
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
