"""CPU seconds, wall time and peak memory: of processes that live on, and of a command from start to end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICK = 0.005


@dataclass(slots=True)
class Sample:
    """One run. ``cpu_seconds`` is user + system of everything that belongs to the contestant but Redis."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    redis_cpu_seconds: float = 0.0
    peak_bytes: int = 0


class CommandFailed(Exception):
    """A peer did not do its job; the message ends with what it said."""


def run_command(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Sample:
    """Run a command to its end. CPU includes its children that it waited for. Raises CommandFailed."""
    began = time.monotonic()
    process = subprocess.Popen(
        argv,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    peak, pid = 0, 0
    while not pid:
        # The kernel's own maximum (ru_maxrss) starts with the size of the process that forked, that is ours.
        peak = max(peak, _peak_bytes(process.pid))
        time.sleep(_TICK)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stdout is not None
    with process.stdout as pipe:
        said = pipe.read().decode(errors="replace")
    if process.returncode:
        raise CommandFailed(f"{Path(argv[0]).name} ended with {process.returncode}: {said[-500:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, 0.0, peak)


@contextmanager
def watched(processes: Iterable[psutil.Process], redis: psutil.Process | None = None) -> Iterator[Sample]:
    """What long-lived processes spend while the block runs; wall time too, unless the block writes its own.

    The CPU time of the calling thread counts as well: it is the client.
    """
    watched_processes, sample = list(processes), Sample()
    for each in watched_processes:
        _reset_peak(each.pid)
    before = {each.pid: cpu_seconds(each) for each in watched_processes}
    redis_before = cpu_seconds(redis) if redis else 0.0
    thread_before, began = time.thread_time(), time.monotonic()
    yield sample
    if not sample.wall_seconds:
        sample.wall_seconds = time.monotonic() - began
    sample.cpu_seconds = time.thread_time() - thread_before
    sample.cpu_seconds += sum(cpu_seconds(each) - before[each.pid] for each in watched_processes)
    sample.redis_cpu_seconds = (cpu_seconds(redis) if redis else 0.0) - redis_before
    sample.peak_bytes = sum(_peak_bytes(each.pid) for each in watched_processes)


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _reset_peak(pid: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes(pid: int) -> int:
    """High-water mark of the resident set; 0 once the process is gone or where there is no /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
