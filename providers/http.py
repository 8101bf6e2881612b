"""Plain HTTP: any URL as a source, by ranges where the server proves it can; a single PUT as a destination."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from providers.base import (
    Body,
    ByteRange,
    Destination,
    ObjectStat,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReadsBack,
    Services,
    Source,
    UploadId,
    UploadPlan,
    Validator,
)
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    InvalidPart,
    InvalidRange,
    InvalidValue,
    LengthUnknown,
    ResponseStatusError,
    TransportError,
)
from providers.filenames import suggested_name
from providers.range_reply import content_length, content_range, is_encoded
from providers.redirects import REDIRECTS, RedirectPolicy, next_url, same_host
from providers.reply import Reply, status_error
from providers.schemes import SINGLE_PUT_LIMITS, Location
from providers.transport import Transport, TransportConfig, transport_for

_FIRST_BYTE = ByteRange(0, 1)
_MARKER = UploadId("put")
"""There is no upload to open: the PUT itself publishes."""
_SAYS_NOTHING = frozenset({400, 401, 403, 405, 501})
"""Statuses of a HEAD that tell nothing of the object: a URL that is signed for GET or PUT answers 403 to it."""
_RESERVED = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "range", "te", "trailer", "upgrade"}
    | {"transfer-encoding", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"}
)
"""Headers this path sets itself; another value would break a check, or the framing."""
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STRONG = re.compile(r'"[^"]*"')


def source(location: Location, profile: Profile, options: Options, services: Services) -> HttpSource:
    """Raises InvalidValue for what profile or options may not hold, ProviderUnavailable for unusable certificates."""
    _check_host(profile, location)
    return HttpSource(location, profile, options, services)


def destination(location: Location, profile: Profile, options: Options, services: Services) -> HttpDestination:
    """Raises as ``source`` does."""
    _check_host(profile, location)
    return HttpDestination(location, profile, options, services)


class HttpSource(Source):
    """Read by ranges if there are any and the object can be pinned; else as one stream."""

    def __init__(self, location: Location, profile: Profile, options: Options, services: Services) -> None:
        self._url, self._shown = location.url, location.shown
        self._method = _verb(options.method, ("GET", "POST"), "GET")
        self._headers = _headers(profile, options)
        self._transport = _transport(profile, options, services)
        self._follow = RedirectPolicy(targets=services.redirects, scope=_scope(self._headers))
        self._known_size = options.size_bytes
        self._total = options.size_bytes

    def stat(self) -> ObjectStat:
        """HEAD, then a range of one byte where HEAD is refused or leaves a question open; one GET at the worst."""
        stat = None
        if self._known_size is None and self._method == "GET":
            stat = self._from_head()
        stat = stat or self._from_first_byte()
        self._total = stat.size_bytes
        return stat

    def read_range(self, span: ByteRange, *, validator: Validator) -> Body:
        if validator.pins:
            return self._get(span, self._total, validator)
        if span.start:
            raise InvalidRange(f"{self._shown}: nothing pins this object, so it is read whole or not at all")
        return self._get(None, span.stop, validator)

    def read_unsized(self, *, validator: Validator) -> Body:
        """The whole object as one stream; ``size_bytes`` is -1 if only its end tells."""
        return self._get(None, None, validator)

    def _get(self, span: ByteRange | None, total: int | None, validator: Validator) -> Body:
        return self._transport.get_range(
            self._url,
            span,
            headers=self._headers,
            total=total,
            validator=validator,
            follow=self._follow,
            method=self._method,
        )

    def _ask(self, method: str, **more: str) -> Reply:
        headers = {**self._headers, **more}
        return self._transport.request(method, self._url, headers=headers, max_bytes=0, follow=self._follow)

    def _from_head(self) -> ObjectStat | None:
        """None if the answer is no use: refused, without a length, or silent about ranges."""
        reply = self._ask("HEAD")
        if reply.status in _SAYS_NOTHING:
            return None
        if not reply.ok:
            raise status_error(reply, what=f"HEAD {self._shown}")
        if is_encoded(reply.headers):
            return _stat(reply, self._url, None, ranges=False)
        size, ranges = content_length(reply.headers), reply.headers.get("Accept-Ranges", "").strip().lower()
        if not size or ranges not in ("bytes", "none"):  # 0 is also what a server says that never looked
            return None
        return _stat(reply, self._url, size, ranges=ranges == "bytes")

    def _from_first_byte(self) -> ObjectStat:
        reply = self._ask(self._method, Range=_FIRST_BYTE.header)
        if reply.status == 416 and reply.headers.get("Content-Range", "").strip() == "bytes */0":
            return _stat(reply, self._url, 0, ranges=False)
        if reply.status in (400, 416):
            reply = self._ask(self._method)
        if not reply.ok:
            raise status_error(reply, what=f"{self._method} {self._shown}")
        if is_encoded(reply.headers):
            return _stat(reply, self._url, self._known_size, ranges=False)
        if reply.status != 206:
            size = content_length(reply.headers)
            return _stat(reply, self._url, self._agreed(size), ranges=False)
        found = content_range(reply.headers)
        if found is None or found[0] != _FIRST_BYTE:
            raise InvalidRange(f"{self._shown}: asked for {_FIRST_BYTE.header}, got another range", status=206)
        size = self._agreed(found[1])
        return _stat(reply, self._url, size, ranges=size is not None)

    def _agreed(self, size: int | None) -> int | None:
        if None not in (size, self._known_size) and size != self._known_size:
            raise InvalidValue("size_bytes", self._known_size, f"the size that the server names, {size}")
        return self._known_size if size is None else size


class HttpDestination(Destination, ReadsBack):
    """One PUT that publishes. A pause loses the part; an aborted PUT leaves what the server makes of it."""

    limits = SINGLE_PUT_LIMITS

    def __init__(self, location: Location, profile: Profile, options: Options, services: Services) -> None:
        self._url, self._shown = location.url, location.shown
        self._method = _verb(options.method, ("PUT", "POST", "PATCH"), "PUT")
        self._headers = _headers(profile, options)
        self._transport = _transport(profile, options, services)
        self._moved = RedirectPolicy(targets=services.redirects, scope=f"{self._method} {_scope(self._headers)}")
        self._content_type = options.content_type or "application/octet-stream"
        self._must_be_new = options.on_exists in ("fail", "skip")
        self._readable = (location, profile, replace(options, method=None, size_bytes=None), services)

    def existing(self) -> ObjectStat | None:
        if self._method != "PUT":  # the URL takes objects in, it does not name this one
            return None
        reply = self._head()
        if reply.status in _SAYS_NOTHING or reply.status in (404, 410):
            return None
        if not reply.ok:
            raise status_error(reply, what=f"HEAD {self._shown}")
        return _stat(reply, self._url, _named_size(reply), ranges=False)

    def create_upload(self, plan: UploadPlan) -> UploadId:
        if plan.size_bytes is None:
            raise LengthUnknown(f"{self._shown}: a single {self._method} needs to know the size beforehand")
        if plan.part_count != 1:
            raise InvalidValue("part_count", plan.part_count, "1: an HTTP destination takes the object in one request")
        if self._must_be_new and self.existing() is not None:
            raise DestinationExists(f"{self._shown}: something is already there")
        return _MARKER

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """Publish the object. A repeat under ``on_exists=fail`` after a lost reply finds its own object: it exists."""
        headers = {"Content-Type": self._content_type, **self._headers}
        if self._must_be_new:
            headers["If-None-Match"] = "*"
        url = self._moved.known(self._url) or self._url
        reply = self._transport.put(url, body, method=self._method, headers=headers, size_bytes=part.size_bytes)
        if reply.status in REDIRECTS:
            raise self._redirected(url, reply)
        if reply.status == 412 and self._must_be_new:
            raise DestinationExists(f"{self._shown}: something is already there", status=412)
        if not reply.ok:
            self._moved.forget(self._url)
            raise status_error(reply, what=f"{self._method} {self._shown}")
        return PartReceipt(part.number, part.size_bytes, reply.headers.get("ETag", ""))

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        """Compare size and strong ETag with the store's. Where it cannot be asked, metadata ``verified`` says no."""
        if len(receipts) != 1:
            raise InvalidPart(f"{self._shown}: {len(receipts)} receipts for an object of one part")
        (receipt,) = receipts
        reply = self._head() if self._method == "PUT" else Reply(405)
        if reply.status in _SAYS_NOTHING:
            return ObjectStat(
                receipt.size_bytes, Validator("none"), False, etag=receipt.etag or None, metadata={"verified": "no"}
            )
        if not reply.ok:
            raise status_error(reply, what=f"HEAD {self._shown}")
        size = _named_size(reply)
        if size not in (None, receipt.size_bytes):
            raise ChecksumMismatch(f"{self._shown}: {size} bytes are there, {receipt.size_bytes} were sent")
        found = reply.headers.get("ETag", "")
        if _is_strong(found) and _is_strong(receipt.etag) and found != receipt.etag:
            raise ChecksumMismatch(f"{self._shown}: the ETag is not that of the object sent")
        return _stat(reply, self._url, receipt.size_bytes, ranges=False, verified="no" if size is None else "size")

    def abort_upload(self, upload: UploadId) -> None:
        """Nothing to do: a PUT ends with its connection, and what it published is committed."""

    def as_source(self) -> Source:
        return HttpSource(*self._readable)

    def remove(self) -> None:
        reply = self._transport.request("DELETE", self._url, headers=self._headers, max_bytes=0)
        if not reply.ok and reply.status not in (404, 410):
            raise status_error(reply, what=f"DELETE {self._shown}")

    def _head(self) -> Reply:
        return self._transport.request("HEAD", self._url, headers=self._headers, max_bytes=0, follow=RedirectPolicy())

    def _redirected(self, url: str, reply: Reply) -> Exception:
        """A body is read only once, so it cannot be sent again from here; the next attempt goes to the new place."""
        target = next_url(url, reply)
        if reply.status not in (307, 308) or not same_host(url, target):
            return ResponseStatusError(
                f"{self._shown}: the {self._method} was redirected ({reply.status}); name the final URL instead",
                status=reply.status,
            )
        self._moved.remember(self._url, target)
        return TransportError(f"{self._shown}: moved within its host, to be sent again there", status=reply.status)


def _stat(reply: Reply, url: str, size: int | None, *, ranges: bool, **metadata: str) -> ObjectStat:
    etag, modified = reply.headers.get("ETag"), reply.headers.get("Last-Modified")
    if is_encoded(reply.headers):
        validator = Validator("none")  # it pins the encoded form, which is not what will be read
    elif _is_strong(etag or ""):
        validator = Validator("etag", etag or "")
    else:
        validator = Validator("last_modified", modified) if modified else Validator("none")
    return ObjectStat(
        size,
        validator,
        accepts_ranges=ranges and validator.pins,
        name=suggested_name(reply.headers.get("Content-Disposition"), reply.url or url),
        content_type=reply.headers.get("Content-Type"),
        etag=etag,
        metadata=metadata,
    )


def _is_strong(etag: str) -> bool:
    return _STRONG.fullmatch(etag) is not None


def _named_size(reply: Reply) -> int | None:
    return None if is_encoded(reply.headers) else content_length(reply.headers)


def _verb(method: str | None, allowed: tuple[str, ...], default: str) -> str:
    if method is not None and method not in allowed:
        raise InvalidValue("method", method, ", ".join(allowed))
    return method or default


def _headers(profile: Profile, options: Options) -> dict[str, str]:
    """What every request carries; the transfer's own headers win over the profile's."""
    named = {name.removeprefix("header."): text for name, text in profile.values.items() if name.startswith("header.")}
    headers = {"Accept": options.accept or "*/*", "User-Agent": options.user_agent or _user_agent()}
    for field_name, given in (
        (f"profile {profile.name}", {**_authorization(profile), **named}),
        ("headers", options.headers),
    ):
        for name, text in given.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED or not _HEADER_VALUE.fullmatch(text):
                raise InvalidValue(field_name, name, "a header that is not set by the transfer itself, on one line")
            for same in [each for each in headers if each.lower() == name.lower()]:
                del headers[same]
            headers[name] = text
    return headers


def _check_host(profile: Profile, location: Location) -> None:
    """A profile that names ``hosts`` lends its credentials to no other: submitters name URLs, workers hold secrets."""
    hosts = [each.strip().lower() for each in (profile.get("hosts") or "").split(",") if each.strip()]
    if hosts and location.host not in hosts:
        raise InvalidValue("host", location.host, f"one that profile {profile.name!r} is for: {', '.join(hosts)}")


def _authorization(profile: Profile) -> dict[str, str]:
    user, bearer = profile.get("username"), profile.get("bearer")
    if bearer:
        return {"Authorization": f"Bearer {bearer}"}
    if user is None:
        return {}
    pair = f"{user}:{profile.get('password', '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _transport(profile: Profile, options: Options, services: Services) -> Transport:
    certificate, key = profile.get("client_cert"), profile.get("client_key")
    ipv6 = (profile.get("ipv6") or "yes").lower() not in ("0", "false", "no", "off")
    return transport_for(
        TransportConfig(
            connect_seconds=services.connect_seconds,
            read_seconds=services.read_seconds,
            minimum_bytes_per_second=services.minimum_bytes_per_second,
            stall_seconds=services.stall_seconds,
            ca_file=profile.get("ca_file"),
            client_cert=(certificate, key) if certificate and key else certificate,
            proxy=profile.get("proxy"),
            ipv6=ipv6 and options.ipv6,
            session_factory=services.session_factory,
        )
    )


def _scope(headers: Mapping[str, str]) -> str:
    """Remembered redirects are often signed for who asked: nobody with other headers may use them."""
    return hashlib.sha256(repr(sorted(headers.items())).encode()).hexdigest()[:16]


@cache
def _user_agent() -> str:
    try:
        return f"haulage/{version('haulage')}"
    except PackageNotFoundError:
        return "haulage"
