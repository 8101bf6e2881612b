"""Where each setting comes from, and names in the environment or the TOML file that mean nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from haulage.doctor.reach import shown as shown_place
from haulage.engine import status, wants_engine
from orchestrator.settings import SECRET_FILES, Settings

PREFIX = "HAULAGE_"
BESIDE = ("HAULAGE_CONFIG", "HAULAGE_DEBUG", "HAULAGE_FLOWER_PASSWORD")
"""Variables that are read beside the settings: the file, tracebacks instead of sentences, Flower's password."""
INTERNAL = "HAULAGE_PROCESS_"
"""What a supervisor tells its processes; nobody else sets these."""
_PROFILE = "HAULAGE_PROFILE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``value`` is fit to be shown: a secret is masked, a profile shows the names of its keys."""

    name: str
    value: Any
    origin: str
    variable: str

    @property
    def shown(self) -> str:
        """For people: lists with commas, nothing as a dash."""
        if isinstance(self.value, list | tuple):
            return ",".join(str(each) for each in self.value) or "-"
        return "-" if self.value is None or self.value == "" else str(self.value)


def origins(settings: Settings, environ: Mapping[str, str]) -> list[Setting]:
    """Every setting in the order of ``Settings``, then each profile with the names of its keys.

    With no Redis named, ``redis_url`` is that of this machine's engine, or nothing where none runs.
    """
    given = {name.upper(): name for name in environ}
    file, keys = _toml(environ)
    found = []
    for name in type(settings).model_fields:
        if name == "profiles":
            continue
        variable = f"{PREFIX}{name.upper()}"
        if variable in given:
            origin = f"environment {given[variable]}"
        elif environ.get(SECRET_FILES.get(name, "")):
            origin = f"file {environ[SECRET_FILES[name]]}, by environment {SECRET_FILES[name]}"
        elif name in keys:
            origin = f"{file}: {name}"
        else:
            origin = "given" if name in settings.model_fields_set else "default"
        found.append(Setting(name, _masked(getattr(settings, name)), origin, variable))
    if wants_engine(settings):
        running = status(settings)
        shown = f"unix://{shown_place(running.redis_url)}" if running else None
        found[0] = Setting("redis_url", shown, "engine", f"{PREFIX}REDIS_URL")
    return found + [_profile(settings, environ, file, name) for name in settings.profile_names()]


def profile_keys(settings: Settings, environ: Mapping[str, str], name: str) -> dict[str, str]:
    """Key of the profile -> the variable it comes from, or nothing for the TOML file. Never a value."""
    prefix = f"{_PROFILE}{name.upper()}__"
    found = dict.fromkeys(settings.profiles.get(name, {}), "")
    return found | {each[len(prefix) :].lower(): each for each in environ if each.upper().startswith(prefix)}


def _profile(settings: Settings, environ: Mapping[str, str], file: str, name: str) -> Setting:
    keys = profile_keys(settings, environ, name)
    places = [
        f"environment {variable}" if variable else f"{file}: profiles.{name}.{key}" for key, variable in keys.items()
    ]
    return Setting(f"profile {name}", sorted(keys), "; ".join(sorted(places)), f"{_PROFILE}{name.upper()}__*")


def _masked(value: Any) -> Any:
    if not isinstance(value, SecretStr):
        return str(value) if isinstance(value, Path) else value
    url = value.get_secret_value()
    scheme = urlsplit(url).scheme
    return f"{scheme}://{shown_place(url)}" if scheme in ("redis", "rediss", "unix") else "(set)"


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each name that nothing reads, with the nearest one that is read."""
    fields = [each for each in Settings.model_fields if each != "profiles"]
    variables = [*(f"{PREFIX}{each.upper()}" for each in fields), *SECRET_FILES.values(), *BESIDE]
    warnings = [
        f"nothing reads the variable {name}{_nearest(name.upper(), variables)}"
        for name in sorted(environ)
        if name.upper().startswith(PREFIX)
        and name.upper() not in variables
        and not name.startswith(INTERNAL)
        and not _is_profile(name)
    ]
    file, keys = _toml(environ)
    known = [*fields, "profiles"]
    warnings += [f"nothing reads the key {key} of {file}{_nearest(key, known)}" for key in keys if key not in known]
    return warnings


def _is_profile(variable: str) -> bool:
    name, two, key = variable.upper().removeprefix(_PROFILE).partition("__")
    return variable.startswith(_PROFILE) and bool(name and two and key)


def _nearest(name: str, known: Iterable[str]) -> str:
    if name.upper().startswith(_PROFILE):
        return "; write HAULAGE_PROFILE_NAME__KEY, with two underscores before the key"
    close = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def _toml(environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Path and content of the file; ``load_settings`` has refused one that is missing or no TOML."""
    path = environ.get("HAULAGE_CONFIG")
    return (path, tomllib.loads(Path(path).read_text("utf-8"))) if path else ("", {})
