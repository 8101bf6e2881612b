"""A command in a real pseudo-terminal, and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

from tests.e2e.fleet import CHECKOUT, PATIENCE_SECONDS
from tests.servers.process import wait_until

HAULAGE = (sys.executable, "-m", "haulage")
CTRL_C = b"\x03"


class Terminal:
    """``with Terminal(["ls"], env) as terminal: terminal.wait_for(...)``; the command is killed at the end."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str],
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: Path = CHECKOUT,
    ) -> None:
        self._argv = [*HAULAGE, *map(str, argv)]
        self._env = {**env, "TERM": env.get("TERM", "xterm-256color"), "PYTHONPATH": str(CHECKOUT)}
        self._env["PYTHONIOENCODING"] = env.get("ENCODING", "utf-8")
        self._cwd = cwd
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = bytearray()
        """Everything that was written so far."""

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        self._set_size()
        self.process = subprocess.Popen(
            self._argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # for Ctrl-C
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """The screen, without blanks at the ends of lines."""
        with self._lock:
            return [each.rstrip() for each in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def lines_with(self, text: str) -> list[str]:
        return [each for each in self.lines if text in each]

    def wait_for(self, seen: str | Callable[[str], bool], what: str = "") -> str:
        """Wait until the screen shows it, and answer the screen."""
        shows = seen if callable(seen) else lambda text: seen in text
        found = [""]

        def look() -> bool:
            found[0] = self.text
            return shows(found[0])

        try:
            wait_until(look, what or repr(seen), deadline_seconds=PATIENCE_SECONDS)
        except TimeoutError as exc:
            raise AssertionError(f"{exc}; the screen:\n{self.text}") from None
        return found[0]

    def send(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, columns: int, rows: int = 24) -> None:
        """As a window does: the size, then SIGWINCH to whoever is in front."""
        with self._lock:
            self._screen.resize(rows, columns)
            self._set_size()
        os.killpg(self.process.pid, signal.SIGWINCH)

    def wait_end(self) -> int:
        """The exit code."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join(timeout=PATIENCE_SECONDS)
        return code

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self._screen.lines, self._screen.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
