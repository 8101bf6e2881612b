"""The engine's Valkey: a child on a private socket, with an append-only file; killed with the engine."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from haulage.engine.binary import Binary
from haulage.engine.notes import last_line, note
from orchestrator.errors import RuntimeFailed

_PR_SET_PDEATHSIG = 1
_HEALTHY_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 10.0
_LOAD_SECONDS = 300.0
_STOP_SECONDS = 10.0
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ValkeyServer:
    """``start``, then ``tend`` now and then, ``stop`` at the end. ``lock_fd`` is inherited: see ``lock``."""

    def __init__(self, binary: Binary, data: Path, sockets: Path, log: Path, lock_fd: int) -> None:
        self.binary = binary
        self._log = log
        self._data = data
        self.socket = sockets / "redis.sock"
        self._lock_fd = lock_fd
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._not_before = 0.0

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; it answers once it has read its data."""
        self._launch()

    def wait_ready(self) -> None:
        """Return when it answers; a large append-only file is read first. Raises RuntimeFailed if it ends instead."""
        deadline = time.monotonic() + _LOAD_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeFailed(f"{self.binary} did not start: {last_line(self._log)}")
            if time.monotonic() > deadline:
                raise RuntimeFailed(f"{self.binary} has not read its data within {_LOAD_SECONDS:.0f} s")
            time.sleep(0.01)

    def tend(self) -> None:
        """Start it again where it has ended, later each time. Never blocks."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._failures = 0 if time.monotonic() - self._started > _HEALTHY_SECONDS else self._failures + 1
            wait = min(0.1 * 2**self._failures, _LONGEST_WAIT_SECONDS)
            self._not_before = time.monotonic() + wait
            self._dismiss_guard()
            self._process = None
            note("valkey_ended", level="error", exit_code=code, restart_in_seconds=round(wait, 1))
        if time.monotonic() >= self._not_before:
            self._launch()

    def stop(self) -> None:
        """SIGTERM: it writes and syncs its file. SIGKILL if that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            note("valkey_killed", level="warning")
            self._process.kill()
            self._process.wait()
        self._dismiss_guard()
        self._process = None

    def abandon(self) -> None:
        """SIGKILL: a clean end would remove the socket, which is that of another server by now."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._dismiss_guard()
        self._process = None

    def _launch(self) -> None:
        parent, self._started = os.getpid(), time.monotonic()
        self._process = subprocess.Popen(
            [
                self.binary.path,
                *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
                *("--dir", str(self._data), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--aof-load-truncated", "yes", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
                *("--loglevel", "warning"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={"PATH": os.defpath, "LC_ALL": "C"},  # the environment may hold the credentials of profiles
            umask=0o077,
            start_new_session=True,
            pass_fds=(self._lock_fd,),
            preexec_fn=lambda: _die_with(parent),  # the engine has one thread; one call into libc, resolved before
        )
        if _libc is None:
            self._guard = guard(self._process.pid)

    def _dismiss_guard(self) -> None:
        """Before the process id can be given out anew."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def guard(pid: int) -> subprocess.Popen[bytes]:
    """Where the kernel does not kill children with their parent: a shell that waits for our end of a pipe to close."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -9 "$0"', str(pid)], stdin=subprocess.PIPE, start_new_session=True
    )


def _die_with(parent: int) -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
