"""Worker processes forked from an engine that has imported everything: ready in a fraction of a fresh start."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from workers.supervisor import Process, Role


class ForkedProcess:
    """A child of this process, as ``subprocess.Popen`` would show it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        while (code := self._reap(0)) is None:
            pass
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def can_fork() -> bool:
    """Only where it is safe: one thread, also in libraries, and no macOS, whose frameworks do not survive it."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    return len(list(Path("/proc/self/task").iterdir())) == 1


def fork_worker(role: Role, *, umask: int, let_go: Callable[[], None]) -> Process:
    """Start a worker process. ``let_go`` runs in the child and closes what is the engine's alone.

    Files it makes get the user's own ``umask``, not the engine's.
    """
    parent = os.getpid()
    gc.freeze()  # pages that the collector does not touch stay shared
    pid = os.fork()
    if pid:
        return ForkedProcess(pid)
    code = 1
    try:
        _become_worker(umask, let_go)
        from workers.process import main

        main([
            *("--pools", ",".join(role.pools), "--threads", str(role.threads)),
            *("--name", role.name, "--parent", str(parent)),
        ])  # fmt: skip
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _become_worker(umask: int, let_go: Callable[[], None]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    let_go()
    os.setsid()
    os.umask(umask)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # Celery's banner; logs go to stderr
    os.close(null)
