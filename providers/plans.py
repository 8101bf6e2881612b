"""Presigned plans: requests that somebody else signed, as JSON that is checked before a byte moves. Pure.

A plan holds signed URLs, which are secrets: no ``repr`` and no error of this module shows one. Field names are those
that clients of other presigned flows know, so that their JSON is read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from providers.errors import InvalidValue
from providers.schemes import redact

PAGE_PARTS = 100
"""Signed parts are stored, and at most signed, so many at a time."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING = frozenset({"connection", "expect", "te", "trailer", "transfer-encoding", "upgrade"})
_PINNING = frozenset(
    {"range", "accept-encoding", "content-length", "host"}
    | {"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"}
)
_HIDDEN = "(hidden)"

BodyBuilder = Literal["none", "json", "s3", "oss", "azure"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what ``to_json`` or another program wrote. Raises InvalidValue that names the field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            raise refused(exc) from None

    def to_json(self) -> str:
        """Without defaults; it holds the signed URLs."""
        return self.model_dump_json(exclude_defaults=True)


class SignedRequest(_Frozen):
    """One request as it was signed: sent exactly so."""

    method: str = "POST"
    url: str = Field(repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    body: str | None = Field(None, repr=False)
    """A fixed body; it goes before any builder."""
    expires_at_unix_secs: float | None = Field(None, ge=0)

    def check(self, name: str) -> None:
        """Raises InvalidValue whose field begins with ``name``."""
        _check_request(name, self.method, self.url, self.headers, None)


class SignedPart(_Frozen):
    """A part and the request that stores it. ``part_number`` and ``provider_part_id`` are the store's own."""

    part_number: int = Field(ge=0)
    provider_part_id: str | None = None
    offset: int = Field(ge=0)
    size: int = Field(ge=0)
    url: str = Field(repr=False)
    method: str = "PUT"
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    expires_at_unix_secs: float | None = Field(None, ge=0)

    def check(self, name: str) -> None:
        """Raises InvalidValue whose field begins with ``name``."""
        _check_request(name, self.method, self.url, self.headers, self.size)


class ResumedPart(_Frozen):
    """A part the store has already, by an earlier upload of the same plan."""

    offset: int = Field(ge=0)
    size: int = Field(ge=0)
    etag: str = ""
    part_number: int | None = None
    provider_part_id: str | None = None


class Signer(_Frozen):
    """Who signs anew: an HTTP callback of the application (``url``), or an entry point on the workers (``name``).

    The callback's requests carry an HMAC with the key ``signer_key`` of the transfer's profile of that end.
    """

    url: str | None = Field(None, repr=False)
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    batch_parts: int = Field(PAGE_PARTS, ge=1, le=PAGE_PARTS)
    """Parts that are signed in one call: few for URLs that live for a short while."""

    def check(self, name: str) -> None:
        """Raises InvalidValue whose field begins with ``name``."""
        if (self.url is None) == (self.name is None):
            raise InvalidValue(name, "both or neither", "either url or name")
        if self.url is not None:
            _check_url(f"{name}.url", self.url)


class PresignedUpload(_Frozen):
    """How an object is stored by requests that somebody else signed (RC-90).

    The object is cut in parts of ``chunk_size`` bytes, only the last may be smaller. Without a ``signer`` every part
    must be listed; with one the list may end early or be empty, and the rest is signed just before it is sent.
    """

    total_size: int = Field(ge=0)
    chunk_size: int
    parts: tuple[SignedPart, ...] = Field((), repr=False)
    upload_id: str | None = Field(None, max_length=1024)
    metadata: dict[str, str] = Field(default_factory=dict, repr=False)
    """Passed to the signer; otherwise not looked at."""
    target: str | None = Field(None, repr=False)
    """A URL of the object; its host and path are shown, and tell duplicates. Default: that of the first part."""
    complete_request: SignedRequest | None = None
    complete_body_builder: BodyBuilder = "none"
    """What the completion says: ``json`` lists the parts, the others are what those services expect."""
    abort_request: SignedRequest | None = None
    """Sent on a cancel; 404 counts as done."""
    head_request: SignedRequest | None = None
    """Answers size and ETag of the object: the proof after a completion whose reply was lost."""
    refresh_before_secs: float = Field(60.0, ge=0)
    signer: Signer | None = None
    resumed_parts: tuple[ResumedPart, ...] = Field((), repr=False)
    first_part_number: int = Field(1, ge=0)
    """The store's number of the first part, where none is listed."""

    def __repr__(self) -> str:
        return f"PresignedUpload({self.shown}, total_size={self.total_size}, chunk_size={self.chunk_size})"

    __str__ = __repr__

    @property
    def part_count(self) -> int:
        """Of the grid; an empty object is one empty part."""
        return max(1, -(-self.total_size // self.chunk_size))

    @property
    def object_url(self) -> str:
        """A URL whose host and path name the object; empty where nothing does."""
        first = self.parts[0].url if self.parts else None
        other = self.complete_request or self.head_request or self.abort_request
        return self.target or first or (other.url if other else "")

    @property
    def shown(self) -> str:
        """Safe to print."""
        return redact(self.object_url)

    def span(self, index: int) -> tuple[int, int]:
        """(offset, size) of the part with this index, counted from 0."""
        offset = index * self.chunk_size
        return offset, min(self.chunk_size, self.total_size - offset)

    def number(self, index: int) -> int:
        """The store's number of that part: the listed one, or counting on from the last that is listed."""
        if index < len(self.parts):
            return self.parts[index].part_number
        last = self.parts[-1].part_number - len(self.parts) + 1 if self.parts else self.first_part_number
        return last + index

    def check(self) -> Self:
        """All that can be known before a byte moves (RC-92, and gaps, overlaps, order). Raises InvalidValue."""
        if self.chunk_size < 1:
            raise InvalidValue("chunk_size", self.chunk_size, "at least 1 byte")
        if self.signer is None and self.total_size and not self.parts:
            raise InvalidValue("parts", "none", f"{self.part_count} parts, or a signer")
        self._check_parts()
        if self.signer is not None:
            self.signer.check("signer")
        for name in ("complete_request", "abort_request", "head_request"):
            request: SignedRequest | None = getattr(self, name)
            if request is not None:
                request.check(name)
        if not self.object_url:
            raise InvalidValue("target", None, "a URL that names the object, where no part is listed")
        _check_url("target" if self.target else "parts[0].url", self.object_url)
        if self.complete_request is None and self.complete_body_builder != "none":
            raise InvalidValue("complete_body_builder", self.complete_body_builder, "none, without complete_request")
        return self

    def _check_parts(self) -> None:
        last_number = -1
        for index, part in enumerate(self.parts):
            name = f"parts[{index}]"
            if index >= self.part_count:
                raise InvalidValue(f"{name}.offset", part.offset, f"{self.part_count} parts that cover the object once")
            if not part.size and self.total_size:
                raise InvalidValue(f"{name}.size", 0, "at least 1 byte")
            if part.offset + part.size > self.total_size:
                raise InvalidValue(
                    f"{name}.size", part.size, f"an end within the {self.total_size} bytes of the object"
                )
            offset, size = self.span(index)
            if part.offset != offset:
                fault = "a gap" if part.offset > offset else "an overlap, or a part listed twice"
                raise InvalidValue(f"{name}.offset", part.offset, f"{offset}: without {fault} before it")
            if part.size != size:
                raise InvalidValue(f"{name}.size", part.size, f"{size}: all of chunk_size but the last")
            if part.part_number <= last_number:
                raise InvalidValue(
                    f"{name}.part_number", part.part_number, f"more than {last_number}: each once, in order"
                )
            last_number = part.part_number
            part.check(name)
        if self.parts and len(self.parts) < self.part_count and self.signer is None:
            covered = sum(part.size for part in self.parts)
            raise InvalidValue(
                "parts", len(self.parts), f"{self.part_count}: {covered} of {self.total_size} bytes covered"
            )

    def resumed(self) -> Iterator[tuple[int, ResumedPart]]:
        """(index, part) for each resumed part that is exactly one of the grid's; of several the last (RC-96)."""
        by_offset = {each.offset: each for each in self.resumed_parts}
        for offset, each in by_offset.items():
            index, rest = divmod(offset, self.chunk_size)
            if not rest and index < self.part_count and self.span(index) == (offset, each.size):
                yield index, each


class PresignedDownload(_Frozen):
    """How an object is read by requests that somebody else signed (RC-99). ``total_size`` saves the HEAD request."""

    range_url: str = Field(repr=False)
    range_headers: dict[str, str] = Field(default_factory=dict, repr=False)
    head_url: str | None = Field(None, repr=False)
    head_headers: dict[str, str] = Field(default_factory=dict, repr=False)
    total_size: int | None = Field(None, ge=0)
    range_expires_at_unix_secs: float | None = Field(None, ge=0)
    refresh_before_secs: float = Field(60.0, ge=0)
    signer: Signer | None = None
    metadata: dict[str, str] = Field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"PresignedDownload({self.shown}, total_size={self.total_size})"

    __str__ = __repr__

    @property
    def object_url(self) -> str:
        return self.range_url

    @property
    def shown(self) -> str:
        """Safe to print."""
        return redact(self.range_url)

    def check(self) -> Self:
        """Raises InvalidValue that names the field."""
        for name in ("range", "head"):
            url: str | None = getattr(self, f"{name}_url")
            if url is not None:
                _check_url(f"{name}_url", url)
            _check_headers(f"{name}_headers", getattr(self, f"{name}_headers"), _PINNING)
        if self.signer is not None:
            self.signer.check("signer")
        return self


PresignedPlan = PresignedUpload | PresignedDownload


def refused(exc: ValidationError) -> InvalidValue:
    """The first fault of a pydantic error. Input is never repeated: it may be a signed URL."""
    fault = exc.errors(include_url=False, include_input=False)[0]
    name = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in fault["loc"]).lstrip(".")
    return InvalidValue(name or "plan", _HIDDEN, fault["msg"].removeprefix("Value error, "))


def sent_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What is given to the transport: it sets Host and Content-Length itself, to the values that were checked."""
    return {name: text for name, text in headers.items() if name.lower() not in ("host", "content-length")}


def _check_request(name: str, method: str, url: str, headers: Mapping[str, str], size: int | None) -> None:
    if not _TOKEN.fullmatch(method):
        raise InvalidValue(f"{name}.method", method, "the name of a method, such as PUT")
    _check_url(f"{name}.url", url)
    _check_headers(f"{name}.headers", headers, frozenset())
    told: dict[str, Any] = {each.lower(): text for each, text in headers.items()}
    if size is not None and told.get("content-length", str(size)) != str(size):
        raise InvalidValue(f"{name}.headers", "Content-Length", f"{size}, the size of the part")
    if told.get("host", urlsplit(url).netloc).lower() != urlsplit(url).netloc.lower():
        raise InvalidValue(f"{name}.headers", "Host", "the host of the URL")


def _check_headers(name: str, headers: Mapping[str, str], reserved: frozenset[str]) -> None:
    for each, text in headers.items():
        if not _TOKEN.fullmatch(each) or each.lower() in _FRAMING | reserved or not _LINE.fullmatch(text):
            raise InvalidValue(name, each, "a header that the transfer does not set itself, on one line")


def _check_url(name: str, url: str) -> None:
    allowed = "an http:// or https:// URL of printable ASCII with a host, and without user:password"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise InvalidValue(name, _HIDDEN, allowed) from None
    if not fine or parts.username or parts.password or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise InvalidValue(name, _HIDDEN, allowed)
