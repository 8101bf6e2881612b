"""Installs Alibaba's second SDK of OSS from the lock file beside, apart from ours: once for each machine.

It needs a package that takes the name of one that the first SDK needs, so both cannot live in one environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.servers.process import ServerMissing

FOLDER = Path(__file__).parent / "oss_v2"
LOCK = FOLDER / "requirements.lock"
BATTERY = FOLDER / "battery.py"
_SECONDS = 100


@cache
def oss_v2_python() -> Path:
    """The interpreter that can import it. Several processes may ask at once: one installs. Raises ServerMissing."""
    version = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "haulage-tests" / f"oss-v2-{version}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left; an environment cannot be moved
            _install(folder)
            ready.touch()
    return python


def _install(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)])
    options = ["--require-hashes", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", *options, "-r", str(LOCK)])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise ServerMissing(f"alibabacloud-oss-v2 cannot be installed within {_SECONDS} s") from None
    if done.returncode:
        raise ServerMissing(f"alibabacloud-oss-v2 cannot be installed: {done.stderr[-1000:]}")
