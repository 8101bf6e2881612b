"""One frozen Settings, read once at start from ``HAULAGE_*`` and an optional TOML file (``HAULAGE_CONFIG``)."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from orchestrator.errors import InvalidSpec
from providers.base import Profile

_HOST = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$"


def _split(value: object) -> object:
    return tuple(each.strip() for each in value.split(",") if each.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


_MAY_BE_SECRET = frozenset(
    {"redis_url", "broker_url", "notify_broker_url", "secret_key", "profiles", "source", "destination", "headers"}
)


SECRET_FILES = {
    name: f"HAULAGE_{name.upper()}_FILE" for name in ("redis_url", "broker_url", "notify_broker_url", "secret_key")
}
"""Settings that are secret, or hold a password -> the variable that names a file with the value instead."""


class _SecretFiles(PydanticBaseSettingsSource):
    """Values out of files: what Docker, Kubernetes and systemd mount shows in no list of processes or containers."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file that is named for this field, if any. Raises InvalidSpec."""
        variable = SECRET_FILES.get(field_name, "")
        path = os.environ.get(variable)
        if not path:
            return None, field_name, False
        if os.environ.get(variable.removesuffix("_FILE")):
            raise InvalidSpec(variable, path, f"one of the two, and {variable.removesuffix('_FILE')} is set too")
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
            raise InvalidSpec(variable, path, f"a file that this user can read ({reason})") from None

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(Settings.model_fields[name], name)[0] for name in SECRET_FILES}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """Everything that can be set. Times are seconds, sizes bytes. A bad value is named with what is allowed."""

    model_config = SettingsConfigDict(env_prefix="HAULAGE_", frozen=True, extra="ignore", validate_default=True)

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """The ledger, and unless ``broker_url`` says otherwise also broker and chord results."""
    broker_url: SecretStr | None = None
    """A Redis of its own for Celery's queues and chord results; it may be emptied without losing a transfer."""
    notify_broker_url: SecretStr | None = None
    """The broker of applications that ask to be told (``notify``), if it is another: any URL Celery takes."""
    secret_key: SecretStr | None = Field(None, min_length=16)
    """Encrypts presigned plans in the ledger; the same for all clients and workers. Needs ``cryptography``."""
    host: str = Field(default_factory=socket.gethostname, pattern=_HOST)
    """Names this machine: local paths without a host mean this one."""
    shared_roots: Names = ()
    """Folders on a network file system that every worker sees under the same path."""
    roots: Names = ()
    """If set, local paths outside these folders are refused."""
    pools: Names = ("control", "data", "express")
    """Pools that a worker of this machine serves. Each pool also serves the files of this machine."""
    shards: int = Field(1, ge=1, le=1024)
    """Parts of the ledger, each with its own hash tag; the same for all clients and workers, and for good."""
    lease_seconds: float = Field(10.0, gt=0, le=3600)
    """How long a part stays with a worker that no longer answers. The same for the whole fleet."""
    renew_seconds: float = Field(1.0, gt=0, le=60)
    """How often a worker renews its leases, reports bytes and hears of pause and cancel."""
    sweep_seconds: float = Field(1.0, gt=0, le=60)
    """How often the sweeper of each worker process looks for what died."""
    quantum_seconds: float = Field(0.5, ge=0, le=60)
    """How long a lane of a large transfer goes on before it queues again; 0 is strictly one part a task."""
    quantum_above_parts: int = Field(1000, ge=0)
    """Transfers of up to this many parts run one part a task, whatever the quantum."""
    upload_slots: int = Field(32, ge=1)
    """Uploads at work at once, over the whole fleet; more wait. Shards share them, at least one each."""
    download_slots: int = Field(32, ge=1)
    """Downloads at work at once, over the whole fleet."""
    copy_slots: int = Field(32, ge=1)
    """Copies between stores at work at once, over the whole fleet."""
    queue_capacity: int = Field(100_000, ge=1)
    """Queued transfers per direction and shard; one more is refused at once (111)."""
    parts_in_flight: int = Field(8, ge=1, le=1024)
    """Parts of one transfer that move at once, over all workers, unless the transfer says otherwise."""
    max_deaths: int = Field(4, ge=1)
    """A part whose worker process died this often under it is parked and fails the transfer."""
    retention_seconds: int = Field(7 * 86400, ge=1)
    """How long an ended transfer can still be shown, an idempotency key is remembered, and a notice is tried.
    Then what a failed transfer left at the store is dropped, unless ``keep_partial``."""
    connect_seconds: float = Field(5.0, gt=0)
    """Time-out of a connection's start, TLS included."""
    read_seconds: float = Field(30.0, gt=0)
    """Time-out of one read; there is no limit on a whole request."""
    minimum_bytes_per_second: int = Field(1024, ge=0)
    """A part that is slower than this over ``stall_seconds`` is given back and tried again; 0 never."""
    stall_seconds: float = Field(30.0, gt=0)
    """Seconds without a byte, or below the minimum rate, after which a part is given back."""
    redis_retry_seconds: float = Field(10.0, ge=0)
    """How long a call waits for a Redis that does not answer, before error 112."""
    profiles: dict[str, dict[str, str]] = Field(default_factory=dict, repr=False)
    """Profiles from the TOML file: ``[profiles.NAME]``. Environment: ``HAULAGE_PROFILE_NAME__KEY=value``."""
    engine_folder: Path | None = None
    """Where the one-machine engine keeps its data, log and sockets. Default: ``haulage`` in the user's state folder."""
    engine_linger_seconds: float = Field(30.0, ge=0)
    """How long the engine stays when nobody is attached and no kept transfer is live."""
    engine_processes: int = Field(1, ge=1, le=64)
    """Processes of the engine that move parts, with 8 threads each."""
    session_factory: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """``module:function`` that gives workers a ``requests.Session``: its headers, auth, proxies, adapters are used."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Port on which ``haulage worker`` serves Prometheus metrics; 0 is any free one. Default: none."""
    metrics_host: str = "127.0.0.1"
    """Address for ``metrics_port``. The metrics name hosts and queues of the fleet, and ask for no password."""
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """``DEBUG`` also logs each part of a large transfer."""
    log_format: str = Field("json", pattern="^(json|console)$")
    """``json`` for machines, one object per line; ``console`` for people."""

    @field_validator("notify_broker_url")
    @classmethod
    def _any_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"[a-z][a-z0-9+]*://", value.get_secret_value()):
            raise ValueError("allowed: a URL that Celery takes as a broker, such as redis://host/0 or amqp://host//")
        return value

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _redis_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        if not re.match(r"(rediss?|unix)://", value.get_secret_value()):
            raise ValueError("allowed: redis://, rediss:// or unix:// (clusters cannot be a Celery broker)")
        try:
            _ = urlsplit(value.get_secret_value()).port
        except ValueError:  # its text would show a piece of the password
            allowed = "a number as port; in a password write / ? # @ as %2F %3F %23 %40"
            raise ValueError(f"allowed: {allowed}") from None
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get("HAULAGE_CONFIG")
        if path and not Path(path).is_file():
            raise InvalidSpec("HAULAGE_CONFIG", path, "a TOML file that exists")
        toml = (TomlConfigSettingsSource(settings_cls, Path(path)),) if path else ()
        return (init_settings, env_settings, _SecretFiles(settings_cls), *toml)

    @property
    def redis(self) -> str:
        """The ledger's URL, with its password: for clients, never for a log."""
        return self.redis_url.get_secret_value()

    @property
    def broker(self) -> str:
        """The broker's URL as Celery spells it."""
        return _for_celery(self.broker_url or self.redis_url)

    @property
    def notify_broker(self) -> str:
        """The URL of the broker that applications are told through."""
        return _for_celery(self.notify_broker_url or self.broker_url or self.redis_url)

    @property
    def lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    def slots(self) -> dict[str, int]:
        """Transfers of each direction that may be at work at once, over the whole fleet."""
        return {"upload": self.upload_slots, "download": self.download_slots, "copy": self.copy_slots}

    def slots_of(self, shard: int) -> dict[str, int]:
        """Its share of each: they add up to the whole. With more shards than slots each shard still has one."""
        return {
            direction: max(1, slots // self.shards + (shard < slots % self.shards))
            for direction, slots in self.slots().items()
        }

    def profile_names(self) -> list[str]:
        """Every profile this process can resolve; names only."""
        return sorted(set(self.profiles) | set(_env_profiles(os.environ)))

    def profile(self, name: str) -> Profile | None:
        """A profile by name: the TOML file, overridden key by key from the environment. None when unknown.

        A key that ends in ``_file`` names a file whose content is the value (Docker and Kubernetes secrets).
        """
        values = {**self.profiles.get(name, {}), **_env_profiles(os.environ).get(name.lower(), {})}
        if not values:
            return None
        return Profile(name, dict(_read_secret_file(key, value) for key, value in values.items()))


def _for_celery(secret: SecretStr) -> str:
    url = secret.get_secret_value()
    return "redis+socket://" + url.removeprefix("unix://") if url.startswith("unix://") else url


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Raises InvalidSpec that names the variable, the value and what is allowed."""
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise invalid_spec(exc, prefix="HAULAGE_") from None
    except tomllib.TOMLDecodeError as exc:
        raise InvalidSpec("HAULAGE_CONFIG", os.environ.get("HAULAGE_CONFIG"), f"valid TOML ({exc})") from None


def invalid_spec(exc: ValidationError, *, prefix: str = "") -> InvalidSpec:
    """The first fault of a pydantic error as our one-sentence error. Secret input is never repeated."""
    fault = exc.errors(include_url=False)[0]
    name = ".".join(str(each) for each in fault["loc"]) or "value"
    field = prefix + name.upper() if prefix else name
    allowed = fault["msg"].removeprefix("Value error, ").removeprefix("allowed: ").removeprefix("Input should be ")
    # An unknown field may be anything, such as a password in the wrong place.
    secret = str(fault["loc"][0] if fault["loc"] else "") in _MAY_BE_SECRET or fault["type"] == "extra_forbidden"
    return InvalidSpec(field, "(hidden)" if secret else fault.get("input"), allowed)


def _env_profiles(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for variable, value in environ.items():
        name, two, key = variable.removeprefix("HAULAGE_PROFILE_").partition("__")
        if variable.startswith("HAULAGE_PROFILE_") and two and name and key:
            found.setdefault(name.lower(), {})[key.lower()] = value
    return found


def _read_secret_file(key: str, value: str) -> tuple[str, str]:
    if not key.endswith("_file") or key == "ca_file":
        return key, value
    return key.removesuffix("_file"), Path(value).read_text(encoding="utf-8").strip()
