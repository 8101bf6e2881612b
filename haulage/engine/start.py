"""Starts an engine, detached from this process, with this process's settings and credentials."""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from haulage.engine.binary import INSTALL
from haulage.engine.folders import Place, make_private
from haulage.engine.identity import DIGEST_VARIABLE, digest, fingerprints, own_umask
from haulage.engine.notes import last_line, open_log
from orchestrator.errors import RuntimeFailed
from orchestrator.settings import Settings

_NEEDED = ("requests", "urllib3", "awscrt")
_OWN_OR_PLACED = frozenset({"redis_url", "broker_url", "profiles", "redis_retry_seconds", "host"})
"""Settings that are not handed on as they are: the engine's own, this client's patience, or passed in another way."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The environment and umask an engine would get from this process, and the digest of both."""

    environment: dict[str, str] = field(repr=False)
    umask: int

    @property
    def digest(self) -> str:
        return digest(self.environment, self.umask)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each variable, and of the umask."""
        return fingerprints(self.environment, self.umask)


def wish_of(settings: Settings, place: Place) -> Wish:
    """What is set here, by argument, environment or file, is set there too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HAULAGE_PROCESS_")}
    for name in ("HAULAGE_REDIS_URL", "HAULAGE_BROKER_URL"):
        environment.pop(name, None)
    for name in settings.model_fields_set - _OWN_OR_PLACED:
        value = getattr(settings, name)
        if value is not None:
            environment[f"HAULAGE_{name.upper()}"] = _as_text(value)
    if "host" in settings.model_fields_set:
        environment["HAULAGE_HOST"] = settings.host
    if config := environment.get("HAULAGE_CONFIG"):
        environment["HAULAGE_CONFIG"] = os.path.abspath(config)  # the engine works in /
    elif settings.profiles:
        environment["HAULAGE_PROFILES"] = _as_json(settings.profiles)
    environment["HAULAGE_ENGINE_FOLDER"] = str(place.folder)
    return Wish(environment, own_umask())


class Starter:
    """One try to start the engine. ``ended`` and ``failure`` become true as the try reports."""

    def __init__(self, place: Place, wish: Wish) -> None:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if sys.platform == "win32":
            raise RuntimeFailed("the one-machine engine runs on Linux and macOS; elsewhere set HAULAGE_REDIS_URL")
        if missing:
            names = ", ".join(missing)
            raise RuntimeFailed(f"the one-machine engine needs packages that are missing ({names}): {INSTALL}")
        make_private(place.folder)
        self._place = place
        self.ended = False
        self.failure = ""
        self._report, report_to = os.pipe()
        try:
            self._run(wish, report_to)
        except BaseException:
            os.close(self._report)
            raise
        finally:
            os.close(report_to)

    def _run(self, wish: Wish, report_to: int) -> None:
        command = [sys.executable, "-m", "haulage.engine", "--detach", "--folder", str(self._place.folder)]
        command += ["--umask", f"{wish.umask:o}", "--report-to", str(report_to)]
        log = open_log(self._place.log)
        try:
            process = subprocess.Popen(
                command,
                cwd="/",
                env={**wish.environment, **_import_paths(wish.environment), DIGEST_VARIABLE: wish.digest},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
                pass_fds=(report_to,),
            )
        finally:
            os.close(log)
        if process.wait() != 0:  # the engine itself is its child, and goes on
            self.failure = last_line(self._place.log) or f"exit code {process.returncode}"

    def wait(self, seconds: float) -> None:
        """Up to this long for a report."""
        if self.ended:
            return
        ready, _, _ = select.select([self._report], [], [], seconds)
        if not ready:
            return
        said = os.read(self._report, 8192).decode("utf-8", "replace")
        self.ended = True
        if said.startswith("failed: "):
            self.failure = said.removeprefix("failed: ")
        elif not said:
            self.failure = last_line(self._place.log) or "it ended without a word"

    def close(self) -> None:
        """Listen no more; the engine stays."""
        os.close(self._report)


def _import_paths(environment: dict[str, str]) -> dict[str, str]:
    """The engine works in ``/`` and must find the same packages there, and none that lies in ``/`` by chance."""
    paths = [os.path.abspath(each) for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    here = str(Path(__file__).parents[2])
    if here not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *paths):
        paths.append(here)
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"} if paths else {"PYTHONSAFEPATH": "1"}


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _as_json(profiles: dict[str, dict[str, str]]) -> str:
    import json

    return json.dumps(profiles, sort_keys=True)
