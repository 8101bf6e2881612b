"""Records ``haulage cp`` in a terminal, killed in the middle and run again: ``python docs/make_recording.py``.

Nothing is staged but the download's speed: the real command runs in a pseudo-terminal against a local web server that
gives each connection 3 MB/s, everything of it is killed with SIGKILL, and it is run again. What the terminal showed
becomes ``docs/images/cp.svg``, an animation without a script, at twice the speed; waits of more than a second are
shortened to that.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import psutil
import pyte
from recording_svg import Film

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 96, 12
_SIZE_BYTES = 160 << 20
_BYTES_PER_SECOND = 3_000_000
_KILL_AT = re.compile(r"parts ([89]|1\d)/20")
"""What the screen shows when the kill comes: some parts are stored, and others in flight by then."""
_FRAME_SECONDS = 0.25


class Recorder:
    """A terminal in memory, and a film of it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.film = Film(COLUMNS, ROWS)

    def type(self, command: str) -> None:
        """The prompt, and a command that somebody types."""
        self._feed(b"\x1b[32m$\x1b[0m ")
        self.film.add(self._screen, 0.6)
        for start in range(0, len(command), 4):
            self._feed(command[start : start + 4].encode())
            self.film.add(self._screen, 0.06)
        self._feed(b"\r\n")
        self.film.add(self._screen, 0.3)

    def run(self, command: str, *, kill_at: re.Pattern[str] | None = None) -> None:
        """Type and run it to its end, or kill it and all it started, a second after the screen shows the pattern."""
        self.type(command)
        master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self._home / "work",
            env=self._environment(),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        deadline = None
        while self._read_for(master, _FRAME_SECONDS):
            self.film.add(self._screen, _FRAME_SECONDS)
            if kill_at and deadline is None and kill_at.search("\n".join(self._screen.display)):
                deadline = time.monotonic() + 1.5
            if deadline is not None and time.monotonic() > deadline:
                break
        self.film.add(self._screen, _FRAME_SECONDS)
        if kill_at:
            killed = kill_all(self._home)
            self._feed(
                f"\x1b[?25h\r\n\x1b[31mkill -9 of all {killed}: command, engine, its Redis, workers\x1b[0m\r\n".encode()
            )
            self.film.add(self._screen, 2.0)
            self.film.hold(1.6)
        process.wait()
        os.close(master)
        if not kill_at and process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}:\n" + "\n".join(self._screen.display))

    def _read_for(self, master: int, seconds: float) -> bool:
        """Feed the screen for a while; False once the other side has closed."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([master], [], [], left)[0]:
                break
            try:
                data = os.read(master, 65536)
            except OSError:  # how Linux tells that nobody has the terminal open
                return False
            if not data:
                return False
            self._feed(data)
        return True

    def _feed(self, data: bytes) -> None:
        self._stream.feed(data)

    def _environment(self) -> dict[str, str]:
        path = [str(ROOT / ".venv/bin"), os.defpath]
        return {"HOME": str(self._home), "PATH": os.pathsep.join(path), "TERM": "xterm-256color", "LANG": "C.UTF-8"}


def kill_all(home: Path) -> int:
    """SIGKILL for every process with this home; how many there were."""
    mine = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("HOME") == str(home):
                mine.append(process)
    for process in mine:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(mine, timeout=10)
    return len(mine)


@contextlib.contextmanager
def slow_web(path: Path) -> Iterator[str]:
    """A web server with ranges and a speed limit on each connection; answers the URL of the file."""
    sys.path.insert(0, str(ROOT))
    from tests.servers.range_server import RangeServer

    with RangeServer(port=8000, throttle=_BYTES_PER_SECOND) as server:
        yield server.serve(f"/{path.name}", path)


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="hl-"))
    try:
        (home / "work").mkdir()
        source = home / "web/big.iso"
        source.parent.mkdir()
        source.write_bytes(os.urandom(_SIZE_BYTES))
        with slow_web(source) as url:
            recorder = Recorder(home)
            recorder.run(f"haulage cp {url} .", kill_at=_KILL_AT)
            recorder.run(f"haulage cp {url} .")
            recorder.run("cmp big.iso ../web/big.iso && echo identical")
            recorder.film.hold(3.5)
        target = ROOT / "docs/images/cp.svg"
        target.write_text(recorder.film.svg())
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")  # noqa: T201 - what a person waits for
    finally:
        kill_all(home)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
