"""The engine's log: one JSON object a line, like the workers' own, in one file that does not grow for ever."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

_KEPT_BYTES = 5 << 20
_TRIM_ABOVE_BYTES = 2 * _KEPT_BYTES


def note(event: str, *, level: str = "info", **fields: object) -> None:
    """Write one entry to stderr, which is the log."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    entry = {**fields, "event": event, "logger": "haulage.engine", "level": level, "timestamp": at}
    sys.stderr.write(json.dumps(entry, default=str) + "\n")
    sys.stderr.flush()


def open_log(path: Path) -> int:
    """A descriptor that appends: several processes share the file, and it may be trimmed under them."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def trim_log(path: Path, above_bytes: int = _TRIM_ABOVE_BYTES) -> None:
    """Keep the last 5 MiB, in place, whole lines. What is written in the very moment may be lost."""
    try:
        if path.stat().st_size <= above_bytes:
            return
        with path.open("r+b") as file:
            file.seek(-_KEPT_BYTES, os.SEEK_END)
            file.readline()
            kept = file.read()
            file.seek(0)
            file.write(kept)
            file.truncate()
    except OSError as exc:
        note("log_not_trimmed", level="warning", error=str(exc))


def last_line(path: Path) -> str:
    """The last line that says something: of a traceback the error; of an entry that is JSON its event and error."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16384))
            lines = [each.strip() for each in file.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    text = next((each for each in reversed(lines) if each), "")
    try:
        entry = json.loads(text)
        return ": ".join(str(entry[key]) for key in ("event", "error", "exception") if key in entry)
    except (ValueError, TypeError, KeyError):
        return text[-500:]
