"""The lock that makes the engine the only one of its folder, and what it says of the engine that holds it.

Valkey and the forked workers inherit the lock: it is free only when none of them can touch the data any more.
The kernel frees it at any kind of death, so a stale lock or a process id that was given out anew cannot deceive.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, in its own words. Only true while the lock is held."""

    pid: int
    started_at: float
    machine: str
    version: str
    sockets: str
    """The folder of its sockets."""


class EngineLock:
    """One try to be the engine of a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Whether it is ours now. Never waits."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def write(self, holder: Holder) -> None:
        """Say who holds it, for those who come later."""
        self.clear()
        os.pwrite(self.fd, json.dumps(asdict(holder)).encode() + b"\n", 0)

    def clear(self) -> None:
        """Say that nobody can be reached."""
        os.ftruncate(self.fd, 0)

    def is_in_place(self) -> bool:
        """False when the folder was removed under us: whoever comes next makes a new one."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self._path))
        except OSError:
            return False


def read_holder(path: Path) -> Holder | None:
    """What the lock's file says; None while nobody has written it, or only half."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether any process of an engine lives."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
