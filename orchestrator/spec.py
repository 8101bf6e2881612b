"""TransferSpec: what an application asks for. Frozen, validated before any I/O, and free of credentials.

A source URL may carry a signed query; it then lives in the ledger only, and never in a message, event or log.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from orchestrator.errors import InvalidSpec
from orchestrator.plan import LEDGER_MAX_PARTS, check_part_size
from orchestrator.settings import Settings, invalid_spec
from providers.base import OnExists, Options
from providers.errors import InvalidValue
from providers.schemes import Location, parse

SCHEMA = 1
CHECKSUMS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_SIZE = re.compile(r"(\d+)\s*([kmgt]i?b?|b)?", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Direction = Literal["upload", "download", "copy"]


def _bytes(value: object) -> object:
    """``8MiB`` or ``8M`` is 8 * 1024 * 1024; a bare number is bytes."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if not match:
        raise ValueError("allowed: a number of bytes such as 8388608 or '8MiB'")
    unit = (match[2] or "b").lower()[0]
    return int(match[1]) << {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit]


Bytes = Annotated[int, BeforeValidator(_bytes)]


DEFAULT_QUEUE = "celery"
"""What a Celery application reads when it names no queue."""


class Notify(BaseModel):
    """The application's Celery task that is told when a transfer has ended, and the queue its workers read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,254}$")
    queue: str = Field(DEFAULT_QUEUE, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,126}$")

    @field_validator("queue")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value.startswith("haulage."):
            raise ValueError("allowed: a queue of the application's, not one of Haulage's own")
        return value


def _task_at_queue(value: object) -> object:
    """``TASK@QUEUE``, or ``TASK`` for Celery's default queue."""
    if not isinstance(value, str):
        return value
    task, at, queue = value.partition("@")
    return {"task": task, "queue": queue} if at else {"task": task}


class RetryBudget(BaseModel):
    """How long a fault is retried: attempts count from 1 and the first try is one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prepare_attempts: int = Field(8, ge=1, le=1000)
    """Attempts to look at the source and open the upload, and attempts of the commit."""
    part_attempts: int = Field(15, ge=1, le=1000)
    """Attempts of each part; what a paused or leaving worker hands back is none."""
    elapsed_seconds: float = Field(3600.0, gt=0)
    """From the first attempt of a part, prepare or commit; then the transfer fails whatever attempts are left."""
    base_seconds: float = Field(0.2, gt=0, le=60)
    """First wait after a failed attempt; it doubles, with jitter."""
    cap_seconds: float = Field(30.0, gt=0, le=3600)
    """Longest wait that is not asked for by the server."""
    retry_after_cap_seconds: float = Field(300.0, ge=0, le=86400)
    """Longest wait that a server's Retry-After can ask for."""
    wait_seconds: float = Field(30.0, gt=0, le=86400)
    """How often a waiting transfer looks whether the disk, credential or provider is back."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.base_seconds > self.cap_seconds:
            raise ValueError("allowed: base_seconds of at most cap_seconds")
        return self


class TransferSpec(BaseModel):
    """One object from one source to one destination."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    source: str = Field(repr=False)
    """URL, or a plain path on the machine that submits. A signed query is kept in the ledger and shown nowhere."""
    destination: str = Field(repr=False)
    """URL or path; with a slash at its end a folder, in which the source decides on the name, made safe."""
    source_profile: str | None = Field(None, max_length=63)
    """Name of the credentials for the source; default: the profile called like the scheme, if there is one."""
    destination_profile: str | None = Field(None, max_length=63)
    """Name of the credentials for the destination, with the same default."""
    on_exists: OnExists | None = None
    """Default: ``fail`` for files, what the store does (replace) for objects."""
    on_source_change: Literal["fail", "restart"] = "fail"
    """A source that changes in mid-transfer fails it, or ``restart`` begins anew; never a mixture."""
    checksum: str | None = None
    """``algo:hex`` with md5, sha1, sha256 or sha512: what the whole object must hash to."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Sent to an HTTP source or destination. Secrets belong into a profile; these live in the ledger."""
    method: str | None = None
    """Verb for HTTP: GET or POST of a source, PUT, POST or PATCH of a destination."""
    accept: str | None = None
    """``Accept`` header of an HTTP source."""
    user_agent: str | None = None
    """``User-Agent`` header, for HTTP."""
    size_bytes: Bytes | None = Field(None, ge=0)
    """Size of the source, if known: it saves the question where the server answers it badly."""
    retry: RetryBudget = RetryBudget()
    """How often and how long faults are retried; see RetryBudget."""
    parts_in_flight: int | None = Field(None, ge=1, le=1024)
    """Parts that move at once, over all workers; default: the setting of that name."""
    part_size: Bytes | None = Field(None, ge=1)
    """Default: clamp(size / 2000, 8 MiB, 64 MiB), raised until the destination's limit of parts is kept."""
    copy_mode: Literal["auto", "relay", "server"] = Field("auto", alias="copy")
    """``auto`` lets a store copy by itself where it can, ``relay`` never, ``server`` fails where it cannot."""
    keep_partial: bool = False
    """Cancel leaves the temporary file or multipart upload in place."""
    preallocate: Literal["auto", "full", "sparse", "none"] = "auto"
    """Of a local destination: ``auto`` reserves blocks where that is quick, ``full`` always, ``sparse``, ``none``."""
    ipv6: bool = True
    """``False``: IPv4 only."""
    reference: str | None = Field(None, max_length=256)
    """The application's own name for this transfer; shown and stored, never read."""
    idempotency_key: str | None = Field(None, min_length=1, max_length=256)
    """A second submit with the same key and destination answers the id of the first."""
    tenant: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Whom the transfer is for: shown, stored, and what lists can be narrowed to."""
    priority: int = Field(5, ge=0, le=9)
    """0 goes first. Orders the admission queue; a running transfer is not preempted."""
    not_before: float | None = Field(None, ge=0)
    """Unix time in seconds before which the transfer stays queued."""
    pool: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,63}$")
    """Pool that moves the parts; default ``data``, or ``express`` for one part, or the pool of the file's host."""
    notify: Annotated[Notify, BeforeValidator(_task_at_queue)] | None = None
    """``{"task": name, "queue": name}`` or ``"name@queue"``: a Celery task of the application that is sent
    ``[transfer_id, outcome]`` when the transfer has ended, at least once, with the same task id each time."""

    @field_validator("checksum")
    @classmethod
    def _checksum(cls, value: str | None) -> str | None:
        if value is None:
            return None
        algorithm, _, digest = value.lower().partition(":")
        if CHECKSUMS.get(algorithm) != len(digest) or not re.fullmatch(r"[0-9a-f]+", digest):
            raise ValueError("allowed: 'algo:hex' with " + ", ".join(f"{k} ({v} digits)" for k, v in CHECKSUMS.items()))
        return f"{algorithm}:{digest}"

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", text):
                raise ValueError(f"allowed: a header name of token characters and one line of text (not {name!r})")
            if name.lower() in {"range", "host", "content-length", "transfer-encoding", "if-match", "accept-encoding"}:
                raise ValueError(f"allowed: any header but {name}, which Haulage sets itself")
        return value

    @field_validator("method", "accept", "user_agent")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\x20-\x7e]+", value):
            raise ValueError("allowed: one line of printable ASCII")
        return value

    @property
    def direction(self) -> Direction:
        """``upload`` reads this fleet's disks or memory, ``download`` writes them, ``copy`` is between stores."""
        near = ("file", "mem", "")
        if _scheme(self.source) not in near:
            return "download" if _scheme(self.destination) in near else "copy"
        return "upload"

    def options(self, role: Literal["source", "destination"], transfer_id: str) -> Options:
        """What of this concerns the provider in ``role``."""
        is_source = role == "source"
        return Options(
            transfer_id=transfer_id,
            headers=self.headers if _speaks_http(self.source if is_source else self.destination) else {},
            method=self.method,
            accept=self.accept,
            user_agent=self.user_agent,
            size_bytes=self.size_bytes if is_source else None,
            on_exists=self.on_exists,
            preallocate=self.preallocate,
            ipv6=self.ipv6,
        )


def build_spec(settings: Settings, **values: Any) -> tuple[TransferSpec, Location, Location]:
    """Validate all that needs no I/O and make local paths absolute URLs of this host. Raises InvalidSpec."""
    try:
        spec = TransferSpec(**values)
        source = parse(spec.source, "source", local_host=settings.host)
        destination = parse(spec.destination, "destination", local_host=settings.host)
        spec = spec.model_copy(update={"source": source.url, "destination": destination.url})
        _check_together(spec, source, destination, settings)
    except ValidationError as exc:
        raise invalid_spec(exc) from None
    except InvalidValue as exc:
        raise InvalidSpec(exc.field, exc.value, exc.allowed) from None
    return spec, source, destination


def destination_identity(spec: TransferSpec, destination: Location) -> str:
    """Equal for two transfers that would write the same object: the same place seen through the same profile.

    In a folder the source decides on the name: it tells two transfers apart until ``prepare`` knows that name.
    """
    named_by = parse(spec.source, "source").identity if destination.url.endswith("/") else ""
    plain = f"{destination.identity}\0{spec.destination_profile or ''}" + (named_by and f"\0{named_by}")
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


def inside_folder(folder: Location, name: str) -> Location:
    """The place of this name in a destination folder, whose URL ends with a slash."""
    return parse(folder.url + (quote(name) if folder.scheme.kind in ("path", "http") else name), "destination")


def locations(spec: TransferSpec) -> tuple[Location, Location]:
    """Parse the stored URLs again, in a worker. They name their host, so none is filled in."""
    return parse(spec.source, "source"), parse(spec.destination, "destination")


def dump_spec(spec: TransferSpec) -> str:
    """JSON for the ledger, without defaults: records stay small and old readers meet few unknown fields."""
    return spec.model_dump_json(exclude_defaults=True, by_alias=True)


def load_spec(text: str) -> TransferSpec:
    """The inverse of ``dump_spec``. Raises InvalidSpec for a spec this version does not understand."""
    try:
        return TransferSpec.model_validate_json(text)
    except ValidationError as exc:
        raise invalid_spec(exc) from None


def on_shared_root(path: str, settings: Settings) -> bool:
    """Whether any worker sees this path."""
    return any(_inside(path, root) for root in settings.shared_roots)


def file_host(location: Location, settings: Settings) -> str | None:
    """The one host that must touch this location, or None when any worker can."""
    if location.scheme.kind != "path" or on_shared_root(location.key, settings):
        return None
    return location.host


def _check_together(spec: TransferSpec, source: Location, destination: Location, settings: Settings) -> None:
    if source.identity == destination.identity and spec.source_profile == spec.destination_profile:
        raise InvalidValue("destination", destination.shown, "a place other than the source")
    hosts = {host for each in (source, destination) if (host := file_host(each, settings))}
    if len(hosts) > 1:
        raise InvalidValue(
            "destination",
            destination.shown,
            "a path on the source's host, or one under HAULAGE_SHARED_ROOTS (two hosts share no disk)",
        )
    for name, location in (("source", source), ("destination", destination)):
        confined = location.scheme.kind == "path" and bool(settings.roots)
        if confined and not any(_inside(location.key, root) for root in settings.roots):
            raise InvalidValue(name, location.shown, f"a path inside {', '.join(settings.roots)} (HAULAGE_ROOTS)")
    limits = destination.scheme.limits
    if spec.part_size is not None:
        check_part_size(spec.part_size, limits)
        if spec.size_bytes is not None and limits.max_parts > 1:
            most = min(limits.max_parts, LEDGER_MAX_PARTS)
            if -(-spec.size_bytes // spec.part_size) > most:
                raise InvalidValue("part_size", spec.part_size, f"a size that gives at most {most} parts")
    if spec.size_bytes is not None and spec.size_bytes > limits.max_object_bytes:
        raise InvalidValue("size_bytes", spec.size_bytes, f"at most {limits.max_object_bytes} at this destination")
    if spec.copy_mode == "server" and source.scheme.name != destination.scheme.name:
        raise InvalidValue("copy", "server", "auto or relay: only one store can copy by itself")


def _inside(path: str, root: str) -> bool:
    plain, base = posixpath.normpath(path), posixpath.normpath(root)
    return plain == base or plain.startswith(base.rstrip("/") + "/")


def _speaks_http(url: str) -> bool:
    return _scheme(url).removeprefix("chunked+") in ("http", "https")


def _scheme(url: str) -> str:
    head, colon, _ = url.partition(":")
    return head.lower() if colon and "/" not in head else ""
