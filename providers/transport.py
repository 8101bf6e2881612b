"""The one path of bytes over HTTP: pooled connections, checked ranges, watched speed; the same for every provider.

Call ``transport_for(config)``. A ``Transport`` may be used by all threads of a process. It never retries, keeps no
cookies, reads no .netrc, and lets no exception of requests or urllib3 out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
from requests import PreparedRequest, Response
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies

from providers.base import BUFFER_BYTES, Body, ByteRange, BytesBody, Validator
from providers.errors import InvalidValue, ResponseStatusError, TransportError
from providers.http_errors import transport_errors
from providers.range_reply import ReplyBody, check_range, check_uncoded, check_whole, pinning_headers, unsatisfied
from providers.redirects import REDIRECTS, STALE_TARGET, RedirectPolicy, next_url, same_host, without_secrets
from providers.reply import Reply, retry_after_seconds, status_error
from providers.schemes import redact
from providers.sessions import SessionFactory, injected
from providers.wire import Adapter, SpeedWatch, ssl_context, wire_reply

__all__ = [
    "RedirectPolicy",
    "Reply",
    "Sign",
    "Transport",
    "TransportConfig",
    "retry_after_seconds",
    "status_error",
    "transport_errors",
    "transport_for",
]

Sign = Callable[[PreparedRequest], object]
"""Signs a request that is complete but for its body; may change headers and URL. A requests auth object fits."""

_UNPINNED = Validator("none")
_ERROR_BYTES = 64 << 10


@dataclass(frozen=True)
class TransportConfig:
    """How to reach a host. Equal configs share one transport, with its connections and its SSLContext."""

    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    """Longest wait for a reply's head, or between two packets."""
    send_seconds: float = 30.0
    """Longest wait until the peer takes any byte more."""
    minimum_bytes_per_second: float = 1024
    stall_seconds: float = 30.0
    ca_file: str | None = None
    """PEM file or folder that replaces the system's store."""
    client_cert: str | tuple[str, str] | None = None
    """A PEM file with certificate and key, or (certificate, key)."""
    proxy: str | None = field(default=None, repr=False)
    """http:// or https:// URL for every request; it may hold user and password."""
    trust_env_proxies: bool = True
    """Without ``proxy``: honour HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case."""
    ipv6: bool = True
    user_agent: str = "haulage"
    session_factory: SessionFactory | None = field(default=None, repr=False)
    """Gives the application's session, once per transport; ``sessions.py`` says what of it is used."""


class Transport:
    """Requests to any host under one config. Thread-safe."""

    def __init__(self, config: TransportConfig) -> None:
        if config.proxy is not None and urlsplit(config.proxy).scheme not in ("http", "https"):
            raise InvalidValue("proxy", redact(config.proxy), "an http:// or https:// URL")
        self.config = config
        self.injected = injected(config.session_factory) if config.session_factory else None
        """What the application's own session adds."""
        mine = self.injected
        ca_file = config.ca_file or (mine.ca_file if mine else None)
        client_cert = config.client_cert or (mine.client_cert if mine else None)
        self._adapter = Adapter(
            _shared_context(ca_file, client_cert),
            ipv6=config.ipv6,
            send_seconds=config.send_seconds,
            minimum_bytes_per_second=config.minimum_bytes_per_second,
            stall_seconds=config.stall_seconds,
        )
        self._trust: dict[str, Any] = {"verify": ca_file or True, "cert": client_cert}
        self._proxies: dict[str, dict[str, str]] = {}
        self._buffers = threading.local()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        params: Mapping[str, str] | None = None,
        max_bytes: int = 1 << 20,
        sign: Sign | None = None,
        follow: RedirectPolicy | None = None,
    ) -> Reply:
        """One small request; the status is the caller's to judge.

        A body longer than ``max_bytes`` is cut there, and its connection closed. Raises TransportError.
        """
        response = self._open(method, url, headers, data, params, sign, follow)
        return self._read(response, max_bytes)

    def get_range(
        self,
        url: str,
        span: ByteRange | None,
        *,
        headers: Mapping[str, str] | None = None,
        total: int | None = None,
        validator: Validator = _UNPINNED,
        on_status: Callable[[Reply], Exception] | None = None,
        follow: RedirectPolicy | None = None,
        sign: Sign | None = None,
        method: str = "GET",
        coded: bool = False,
    ) -> Body:
        """Open exactly ``span`` of the object that ``validator`` pins, or with None all of it, whatever its size.

        ``total`` is the object's size where known; ``on_status`` gives the error for a failing status (its body is
        read up to 64 KiB). ``coded`` accepts a Content-Encoding: object stores keep it as a label of the stored
        bytes, while web servers code as they send. A 200 is taken for a range only if that range is the whole
        object. With None, the Body has ``size_bytes`` -1 if only its end will tell. Raises InvalidRange,
        SourceChanged, TransportError, and late, from the Body, also Stalled; LengthUnknown for a body whose end
        could not be told from a cut.
        """
        if span is not None and not span.size_bytes:
            return BytesBody(b"")
        wanted = {**(headers or {}), **pinning_headers(validator), "Accept-Encoding": "identity"}
        if span is not None:
            wanted["Range"] = span.header
        response = self._open(method, url, wanted, None, None, sign, follow)
        head = _head(response)
        try:
            if head.status not in (200, 206):
                raise self._refusal(response, method, total, on_status)
            if not coded:
                check_uncoded(head)
            if span is None:
                size = check_whole(head, total, validator)
            else:
                check_range(head, span, total, validator)
                size = span.size_bytes
        except BaseException:
            response.close()
            raise
        return ReplyBody(response, size, self._watch())

    def put(
        self,
        url: str,
        body: Body,
        *,
        method: str = "PUT",
        headers: Mapping[str, str] | None = None,
        size_bytes: int | None = None,
        sign: Sign | None = None,
        max_bytes: int = 1 << 20,
    ) -> Reply:
        """Send ``size_bytes`` of ``body`` (by default all of it) through one reused buffer; the status is the caller's.

        A failing status that comes before all was sent is returned, a success is not believed: TransportError. What
        ``body`` raises comes through unchanged. The body is not closed here.
        """
        size = body.size_bytes if size_bytes is None else size_bytes
        upload = _Upload(body, size, self._buffer())
        request = self._prepare(method, url, headers, None, None, None, is_signed=sign is not None)
        request.headers["Content-Length"] = str(size)
        request.body = upload if size else b""  # type: ignore[assignment]  # any iterable does; empty would be chunked
        if sign:
            sign(request)
        try:
            reply = self._read(self._send(request), max_bytes, reusable=lambda: not upload.left)
        except BaseException:
            if upload.failure is not None:
                raise upload.failure from None
            raise
        if upload.left and reply.ok:
            raise TransportError(f"{redact(url)}: a success before the body was sent", status=reply.status)
        return reply

    def close(self) -> None:
        """Drop idle connections; those in use are dropped when they are given back."""
        self._adapter.close()

    def _prepare(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        data: bytes | None,
        params: Mapping[str, str] | None,
        sign: Sign | None,
        *,
        is_signed: bool = False,
        is_stranger: bool = False,
    ) -> PreparedRequest:
        """``is_signed``: the caller signs later. ``is_stranger``: a redirect led to a host that may see no secret."""
        defaults = {"User-Agent": self.config.user_agent, "Accept-Encoding": "identity"}
        mine: dict[str, Any] = {"headers": headers}
        if self.injected is not None and not is_stranger:
            merged = CaseInsensitiveDict({**self.injected.headers, **(headers or {})})
            bare = not (sign or is_signed or "Authorization" in merged)
            mine = {"headers": merged, "cookies": self.injected.cookies, "auth": self.injected.auth if bare else None}
        with transport_errors(url):
            request = requests.Request(method, url, data=data, params=params, **mine).prepare()
        for name, value in defaults.items():
            request.headers.setdefault(name, value)
        if not params and url.isascii() and " " not in url:
            # As it is: requests would fold "/../" and unquote, and so break a signature.
            request.url = url.partition("#")[0]
        if sign:
            sign(request)
        return request

    def _send(self, request: PreparedRequest) -> Response:
        url = str(request.url)
        theirs = self.injected.adapter(url) if self.injected else None
        adapter, trust = (self._adapter, {}) if theirs is None else (theirs, self._trust)
        with transport_errors(url):
            return adapter.send(
                request,
                stream=True,
                timeout=(self.config.connect_seconds, self.config.read_seconds),
                proxies=self._proxies_for(url),
                **trust,
            )

    def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        data: bytes | None,
        params: Mapping[str, str] | None,
        sign: Sign | None,
        follow: RedirectPolicy | None,
    ) -> Response:
        if follow is None or method not in ("GET", "HEAD"):
            return self._send(self._prepare(method, url, headers, data, params, sign))
        known = follow.known(url)
        if known is not None:
            response = self._walk(method, url, known, headers, sign, follow)
            if response.status_code not in STALE_TARGET:
                return response
            follow.forget(url)
            response.close()
        return self._walk(method, url, url, headers, sign, follow)

    def _walk(
        self,
        method: str,
        origin: str,
        url: str,
        headers: Mapping[str, str] | None,
        sign: Sign | None,
        follow: RedirectPolicy,
    ) -> Response:
        """Ask ``url``, and go where it points. Once a hop left the origin's host, no secret is sent again."""
        headers, is_stranger = headers or {}, False
        for _ in range(follow.max_hops + 1):
            if not same_host(origin, url):
                headers, sign, is_stranger = without_secrets(headers), None, True
            response = self._send(self._prepare(method, url, headers, None, None, sign, is_stranger=is_stranger))
            if response.status_code not in REDIRECTS:
                if url != origin and response.status_code < 300:
                    follow.remember(origin, url)
                return response
            url = next_url(url, self._read(response, _ERROR_BYTES))
        raise ResponseStatusError(f"{redact(origin)}: more than {follow.max_hops} redirects", status=508)

    def _read(self, response: Response, max_bytes: int, reusable: Callable[[], bool] = lambda: True) -> Reply:
        """Read the body up to ``max_bytes``. The connection is kept only if all was read and ``reusable``."""
        reply = wire_reply(response)
        watch, buffer, body = self._watch(), memoryview(bytearray(min(max_bytes + 1, 64 << 10))), bytearray()
        with closing(response), transport_errors(response.url, in_body=True):
            while len(body) <= max_bytes:
                began = time.monotonic()
                count = reply.readinto(buffer[: max_bytes + 1 - len(body)])
                if not count and reply.length:
                    raise TransportError(f"{redact(response.url)}: the answer was cut short")
                if not count:
                    break
                watch.passed(count, time.monotonic() - began)
                body += buffer[:count]
            if reply.isclosed() and reusable():
                reply.release()
        return _head(response, bytes(body[:max_bytes]))

    def _refusal(
        self, response: Response, method: str, total: int | None, on_status: Callable[[Reply], Exception] | None
    ) -> Exception:
        reply = self._read(response, _ERROR_BYTES)
        if on_status is not None:
            return on_status(reply)
        if reply.status == 416:
            return unsatisfied(reply, total)
        return status_error(reply, what=f"{method} {redact(response.url)}")

    def _proxies_for(self, url: str) -> dict[str, str]:
        if self.config.proxy is not None:
            return {"all": self.config.proxy}
        mine = self.injected
        if not self.config.trust_env_proxies or (mine and not mine.trust_env):
            return dict(mine.proxies) if mine else {}
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        if key not in self._proxies:  # the environment is read once per host; it costs more than a small request
            self._proxies[key] = {**get_environ_proxies(key, no_proxy=None), **(mine.proxies if mine else {})}
        return self._proxies[key]

    def _watch(self) -> SpeedWatch:
        return SpeedWatch(self.config.minimum_bytes_per_second, self.config.stall_seconds)

    def _buffer(self) -> memoryview:
        """One per thread, reused: a part is never held in memory."""
        if not hasattr(self._buffers, "view"):
            self._buffers.view = memoryview(bytearray(BUFFER_BYTES))
        view: memoryview = self._buffers.view
        return view


class _Upload:
    """Feeds a Body to urllib3 piece by piece, and keeps apart what failed on our own side."""

    def __init__(self, body: Body, size: int, buffer: memoryview) -> None:
        self.left = size
        self.failure: Exception | None = None
        self._body = body
        self._buffer = buffer

    def __iter__(self) -> Iterator[memoryview]:
        while self.left:
            try:
                count = self._body.readinto(self._buffer[: self.left])
                if not count:
                    raise TransportError(f"the body to send ended {self.left} bytes early")
            except Exception as exc:
                self.failure = exc
                raise
            yield self._buffer[:count]
            self.left -= count


def _head(response: Response, body: bytes = b"") -> Reply:
    return Reply(response.status_code, response.headers, body, str(response.url))


_shared_context = cache(ssl_context)
"""Parsing the CA bundle costs 16 ms: once per process, not per transport."""


_transports: dict[TransportConfig, Transport] = {}
_transports_lock = threading.Lock()


def transport_for(config: TransportConfig) -> Transport:
    """The process's transport for this config. After a fork the child builds its own: connections are not shared."""
    with _transports_lock:
        if config not in _transports:
            _transports[config] = Transport(config)
        return _transports[config]


def _after_fork() -> None:
    global _transports_lock
    _transports_lock = threading.Lock()  # another thread may have held it
    _transports.clear()


os.register_at_fork(after_in_child=_after_fork)
