"""Where the engine keeps its things, and whether that place is the user's alone."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import RuntimeFailed

_SOCKET_NAMES_BYTES = len("/engine.sock")
_LONGEST_SOCKET_BYTES = 103  # macOS has room for 104 with the final zero, Linux for 108
_PLAIN = re.compile(r"[A-Za-z0-9/._@+-]+")
"""What a socket's path is made of: the libraries on its way disagree about what else a URL may hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one engine. ``folder`` is absolute."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / "engine.lock"

    @property
    def log(self) -> Path:
        return self.folder / "engine.log"

    @property
    def data(self) -> Path:
        return self.folder / "data"


def place_of(named: Path | None) -> Place:
    """The folder that was named, or ``haulage`` among the user's application state."""
    return Place(Path(os.path.abspath((named or _default()).expanduser())))


def _default() -> Path:
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/haulage")
    base = os.environ.get("XDG_STATE_HOME", "")
    return Path(base if os.path.isabs(base) else "~/.local/state") / "haulage"


def make_private(folder: Path) -> None:
    """Create the folder for this user alone, or check that it is. Raises RuntimeFailed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        pass  # no folder: the check says it
    except OSError as exc:
        raise RuntimeFailed(f"the engine's folder {folder} cannot be made: {exc.strerror}") from None
    check_private(folder)


def check_private(folder: Path) -> None:
    """Refuse a link and what others own or may open: they could swap data and sockets. Raises RuntimeFailed."""
    try:
        found = folder.lstat()
    except OSError as exc:
        raise RuntimeFailed(f"the engine's folder {folder} cannot be used: {exc.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        what = "a link: name the folder it leads to" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise RuntimeFailed(f"the engine's folder {folder} is {what}")
    if found.st_uid != os.geteuid():
        raise RuntimeFailed(f"the engine's folder {folder} belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & 0o077:
        shown = stat.S_IMODE(found.st_mode)
        raise RuntimeFailed(f"the engine's folder {folder} is open to others (mode {shown:o}): chmod 700 {folder}")


def make_socket_folder(folder: Path) -> Path:
    """The folder itself, or a private one with a short and plain path. Raises RuntimeFailed."""
    if _fits(folder):
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    candidates = [Path(runtime) / f"haulage-{name}"] if os.path.isabs(runtime) and os.path.isdir(runtime) else []
    candidates += [Path(base) / f"haulage-{os.geteuid()}-{name}" for base in (tempfile.gettempdir(), "/tmp")]  # noqa: S108 - made private below
    short = next((each for each in candidates if _fits(each)), None)
    if short is None:
        raise RuntimeFailed(f"no folder for sockets has a path that is short and plain enough: tried {candidates}")
    make_private(short)
    return short


def _fits(folder: Path) -> bool:
    long = len(os.fsencode(folder)) + _SOCKET_NAMES_BYTES > _LONGEST_SOCKET_BYTES
    return not long and _PLAIN.fullmatch(str(folder)) is not None
