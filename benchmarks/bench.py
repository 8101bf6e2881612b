"""What every benchmark is given, and the object it moves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bench:
    """``folder`` is thrown away afterwards. ``target`` is the destination file, on the same file system for all."""

    folder: Path
    target: Path
    size_bytes: int
    rounds: int
    parts: tuple[int, ...]
    processes: int
    """Data processes of our worker, as ``haulage worker --processes``."""


def write_random(path: Path, size_bytes: int) -> Path:
    """A file nobody can compress, warm in the page cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())  # else its write-back would be billed to the first round
    return path
