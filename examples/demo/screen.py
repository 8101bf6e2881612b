"""What the demo shows while it runs: bars and workers on a terminal, plain lines through a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from haulage import Progress as Done
from orchestrator.progress import Meter
from tests.e2e.fleet import WorkerProcess

MIB = 1 << 20
PLAIN_EVERY_SECONDS = 3.0
RATE_EVERY_SECONDS = 1.0
"""Workers report received bytes once a second: between two reports the rate would jump."""


class Screen:
    """``begin``, ``update`` as often as one likes, ``end``; ``say`` at any time."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = 110
        self._began = time.monotonic()
        self._live: Live | None = None
        self._workers: Sequence[WorkerProcess] = ()
        self._meter = Meter()
        self._rated = Done(0, 0, None, 0, 0)
        self._next_rate = self._next_line = 0.0

    def say(self, text: str) -> None:
        """One line, in rich's markup, with the time since the start."""
        seconds = time.monotonic() - self._began
        self.console.print(f"[dim]{seconds:6.1f} s[/]  {text}", soft_wrap=True)

    def begin(self, title: str, workers: Sequence[WorkerProcess]) -> None:
        self.say(f"[bold]{title}[/]")
        self._workers, self._meter = workers, Meter()
        self._next_rate = self._next_line = 0.0
        if self.console.is_terminal:
            self._bar = Progress(
                *(TextColumn("          "), BarColumn(40), TextColumn("{task.percentage:3.0f} %")),
                *(DownloadColumn(binary_units=True), TextColumn("{task.fields[rate]}"), TimeElapsedColumn()),
                console=self.console,
            )
            self._task = self._bar.add_task("", rate="", total=None)
            self._live = Live(self._bar, console=self.console, refresh_per_second=8, transient=True)
            self._live.start()

    def update(self, done: Done, holders: dict[str, list[int]]) -> None:
        now = time.monotonic()
        if now >= self._next_rate:
            self._rated, self._next_rate = self._meter.sample(now, done), now + RATE_EVERY_SECONDS
        rate = f"{self._rated.smoothed_bytes_per_second / MIB:5.1f} MiB/s"
        if self._live:
            self._bar.update(self._task, completed=done.received_bytes, total=done.total_bytes, rate=rate)
            self._live.update(Group(self._bar, *(_worker_line(each, holders) for each in self._workers)))
        elif now >= self._next_line and done.part_count:
            self._next_line = now + PLAIN_EVERY_SECONDS
            held = ", ".join(f"{each.name} {len(holders.get(each.name, ()))}" for each in self._workers if each.alive)
            stored = f"{done.durable_bytes / MIB:3.0f} MiB  parts {done.parts_done}/{done.part_count}"
            self.say(f"{done.ratio:4.0%}  {stored}  {rate}  parts in work: {held}")

    def end(self, done: Done) -> None:
        self.close()
        self.say(f"{done.parts_done} of {done.part_count} parts stored, {done.durable_bytes / MIB:.0f} MiB")

    def close(self) -> None:
        """Leave the terminal as it was. Safe to repeat."""
        if self._live:
            self._live.stop()
            self._live = None


def _worker_line(worker: WorkerProcess, holders: dict[str, list[int]]) -> Text:
    parts = " ".join(f"{part:>3}" for part in sorted(holders.get(worker.name, [])))
    if worker.alive:
        return Text.from_markup(f"            [green]●[/] {worker.name}  parts {parts or '-'}")
    shown = f"leases of parts {parts}" if parts else "gone"
    return Text.from_markup(f"            [red]✗ {worker.name}[/]  [dim]{shown}[/]")
