"""Which haulage this is, and under which settings and credentials its engine's workers would run."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_ABOUT_TRANSFERS = (
    "HAULAGE_",
    "AWS_",
    "AZURE_",
    "OSS_",
    "ALIBABA_CLOUD_",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)

DIGEST_VARIABLE = "HAULAGE_ENGINE_DIGEST"
"""How a starter tells the engine its digest: others may read a command line, but not the environment."""


@functools.cache
def version() -> str:
    """The installed version, or ``0`` in a bare checkout."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("haulage")
    except PackageNotFoundError:
        return "0"


def digest(environment: Mapping[str, str], umask: int) -> str:
    """Equal for two clients whose transfers one engine can run alike. It never leaves the user's own processes."""
    relevant = [f"{name}={value}" for name, value in _relevant(environment)]
    return _hash("\0".join([*relevant, f"{umask:o}"]))


def fingerprints(environment: Mapping[str, str], umask: int) -> dict[str, str]:
    """What ``digest`` is made of, by name: tells which of it differs. Only for the user's own processes, as well."""
    return {name: _hash(value)[:8] for name, value in (*_relevant(environment), ("umask", f"{umask:o}"))}


def _relevant(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in sorted(environment.items())
        if (name != DIGEST_VARIABLE and name.startswith(_ABOUT_TRANSFERS)) or name.lower().endswith("_proxy")
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def own_umask() -> int:
    """This process's umask. Where the system does not tell, it must be set for an instant to be read."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    found = os.umask(0o077)
    os.umask(found)
    return found
