"""The plumbing below requests: connections, pools and trust. Only ``transport.py`` uses it.

requests ends at its adapter: everything here hangs on ``HTTPAdapter`` and on the ``response_class`` hook of
http.client, so that a body can be read into our own buffer and a pooled connection can be kept.
"""

from __future__ import annotations

import http.client
import io
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import certifi
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.poolmanager import PoolManager, ProxyManager
from urllib3.util.wait import wait_for_read

from providers.base import BUFFER_BYTES
from providers.errors import InvalidValue, ProviderUnavailable, Stalled
from providers.interrupts import REPLY_GRACE_SECONDS, waiting
from providers.schemes import redact

_LINGER_SECONDS = 0.25
"""A call that fills a buffer returns with what it has after this long, so that a slow peer cannot hold it."""
_POOLS = 16
_CONNECTIONS_PER_POOL = 64
_FOREIGN_BYTES = 64 << 10
_UNSENT_BYTES = 512 << 10
_LITTLE_UNSENT = (
    [(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)] if hasattr(socket, "TCP_NOTSENT_LOWAT") else []
)
"""The kernel takes MiB that have not left yet: on a slow link a stop, a stall and the wait for a reply would be judged
by bytes that are still here."""


class SpeedWatch:
    """Raises Stalled when fewer than ``minimum`` bytes a second passed over ``window_seconds`` of waiting.

    Only the time spent waiting for the peer is counted: a slow disk on our side is no fault of the network.
    """

    def __init__(self, minimum_bytes_per_second: float, window_seconds: float) -> None:
        self._minimum = minimum_bytes_per_second
        self._window = window_seconds
        self._waited = 0.0
        self._passed = 0

    def passed(self, count: int, seconds: float) -> None:
        self._waited += seconds
        self._passed += count
        if self._waited >= self._window:
            if self._passed < self._minimum * self._waited:
                raise Stalled(f"only {self._passed} bytes passed in {self._waited:.1f} s")
            self._waited, self._passed = 0.0, 0


class WireReply(http.client.HTTPResponse):
    """An http.client reply whose ``readinto`` waits for one ``recv`` at a time, and reads past http.client's buffer.

    The original fills the whole buffer, with the read time-out starting anew for each packet: a server that drips
    bytes holds one call for hours. And it goes through four Python frames for each TLS record of 16 KiB.
    """

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._sock = sock
        self._recv_into: Callable[[memoryview], int] = sock.recv_into
        self._past_buffer = False

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if self.length is not None and not self.chunked:
            view = view[: self.length]
        until = time.monotonic() + _LINGER_SECONDS
        filled = 0
        with waiting(self._sock) as alive:
            while filled < len(view):
                count = self._recv_into(view[filled:]) if self._past_buffer else self._receive(view[filled:])
                if not count:
                    break
                filled += count
                if time.monotonic() > until:
                    break
            alive()
        if self.fp is not None and not self.chunked:
            self._count(filled, ended=not filled)
        return filled

    def _receive(self, view: memoryview) -> int:
        """One ``recv`` at most, by way of http.client's buffer: the first bytes may have come with the head."""
        if self.fp is None:
            return 0
        if self.chunked:
            data = self.read1(len(view))
            view[: len(data)] = data
            return len(data)
        count = self.fp.readinto1(view)
        self._past_buffer = len(view) > 2 * io.DEFAULT_BUFFER_SIZE  # too much to leave anything in that buffer
        return count

    def _count(self, count: int, *, ended: bool) -> None:
        if self.length is not None:
            self.length -= count
        if ended or self.length == 0:
            self._past_buffer = False
            self._close_conn()  # type: ignore[attr-defined]  # as the original does at the end of a body


class _Wire:
    """Mixed into both connection classes: keeps http.client's reply at hand, and guards what is sent."""

    sock: Any
    send_seconds = 30.0
    minimum_bytes_per_second = 0.0
    stall_seconds = 30.0
    _sent_body = False
    _watch = SpeedWatch(0, float("inf"))  # for the CONNECT to a proxy, which comes before the first request

    def response_class(self, sock: Any, *args: Any, **options: Any) -> WireReply:
        self.reply = WireReply(sock, *args, **options)
        return self.reply

    def getresponse(self) -> Any:
        with waiting(self.sock, grace_seconds=REPLY_GRACE_SECONDS if self._sent_body else 0.0):
            response = super().getresponse()  # type: ignore[misc]  # a mixin: the connection follows in the MRO
        response.reply = self.reply
        return response

    def request(self, *args: Any, **options: Any) -> None:
        self._watch = SpeedWatch(self.minimum_bytes_per_second, self.stall_seconds)
        self._sent_body = False
        super().request(*args, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Send all of ``data``; the time-out counts from the last byte that left, not for the whole."""
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self._sent_body = isinstance(data, memoryview)
        if self._sent_body and self._answered_early():
            raise BrokenPipeError("the server answered before the body was sent")  # urllib3 goes on to the reply
        self.sock.settimeout(self.send_seconds)  # else the connect time-out guards what is sent
        rest = memoryview(data)
        with waiting(self.sock) as alive:
            while rest:
                began = time.monotonic()
                sent = self.sock.send(rest)
                rest = rest[sent:]
                self._watch.passed(sent, time.monotonic() - began)
                alive()

    def _answered_early(self) -> bool:
        # Under TLS 1.3 a readable socket may hold session tickets only; there EPIPE has to tell.
        return not isinstance(self.sock, ssl.SSLSocket) and wait_for_read(self.sock, timeout=0.0)


class OpenReply:
    """The body under a response: filled into our buffers, counted, and its connection given back or not."""

    def __init__(self, response: Response) -> None:
        self._raw: Any = response.raw
        self._reply: WireReply | ForeignReply = getattr(self._raw, "reply", None) or ForeignReply(response)
        self.readinto: Callable[[Any], int] = self._reply.readinto
        self.isclosed: Callable[[], bool] = self._reply.isclosed

    @property
    def length(self) -> int | None:
        """Bytes still to come; None when only the end will tell."""
        return self._reply.length

    def release(self) -> None:
        """Keep the connection for the next request: the body was read to its end."""
        if hasattr(self._raw, "release_conn"):
            self._raw.release_conn()


class ForeignReply:
    """What an application's own adapter answered, read as its urllib3 response, or any other file, allows.

    It can be read and counted like ours. A stop cannot end its wait: that takes until the read time-out.
    """

    def __init__(self, response: Response) -> None:
        self._raw: Any = response.raw
        self._ended = False
        announced = response.headers.get("Content-Length", "")
        self.length: int | None = int(announced) if announced.isascii() and announced.isdigit() else None
        if "Transfer-Encoding" in response.headers:
            self.length = None
        if response.request.method == "HEAD" or response.status_code in (204, 304):
            self.length = 0
        self._ended = self.length == 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if self.length is not None:
            view = view[: self.length]
        data = self._read(len(view)) if view and not self._ended else b""
        view[: len(data)] = data
        if self.length is not None:
            self.length -= len(data)
        self._ended = not data or self.length == 0
        return len(data)

    def isclosed(self) -> bool:
        return self._ended

    def _read(self, count: int) -> bytes:
        if hasattr(self._raw, "read1"):  # what has arrived, so that a slow peer cannot hold one call for long
            return bytes(self._raw.read1(count, decode_content=False))
        return bytes(self._raw.read(min(count, _FOREIGN_BYTES)))


def wire_reply(response: Response) -> OpenReply:
    """The body under a response, whoever's adapter made it."""
    return OpenReply(response)


class Adapter(HTTPAdapter):
    """One per transport: pools per host, one SSLContext, 1 MiB blocks, no retries of its own.

    Without its own context requests parses the CA bundle for every connection, 16 ms each.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        ipv6: bool,
        send_seconds: float,
        minimum_bytes_per_second: float,
        stall_seconds: float,
    ) -> None:
        limits = {
            "send_seconds": send_seconds,
            "minimum_bytes_per_second": minimum_bytes_per_second,
            "stall_seconds": stall_seconds,
        }
        plain = type("PlainConnection", (_Wire, HTTPConnection), limits)
        secure = type("SecureConnection", (_Wire, HTTPSConnection), limits)
        self._pool_classes = {
            "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        self._pool_options: dict[str, Any] = {
            "blocksize": BUFFER_BYTES,
            "ssl_context": context,
            "socket_options": [*HTTPConnection.default_socket_options, *_LITTLE_UNSENT],
        }
        if not ipv6:  # an IPv6 socket cannot be bound to it, so only the IPv4 addresses of a name are tried
            self._pool_options["source_address"] = ("0.0.0.0", 0)  # noqa: S104  # a client's end
        self._context = context
        super().__init__(_POOLS, _CONNECTIONS_PER_POOL, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **self._pool_options, **options)
        self._use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if urlsplit(proxy).scheme not in ("http", "https"):
            raise InvalidValue("proxy", redact(proxy), "an http:// or https:// URL")
        if proxy not in self.proxy_manager:
            manager: ProxyManager = super().proxy_manager_for(
                proxy, **self._pool_options, proxy_ssl_context=self._context, **options
            )
            self._use_our_pools(manager)
        return self.proxy_manager[proxy]

    def _use_our_pools(self, manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = self._pool_classes

    def cert_verify(self, conn: Any, url: str, verify: object, cert: object) -> None:
        if verify is not True or cert is not None:
            raise ValueError("trust and client certificates belong to the context")

    def build_connection_pool_key_attributes(self, request: PreparedRequest, verify: Any, cert: Any = None) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {name: value for name, value in pool.items() if name != "ca_certs"}


def ssl_context(ca_file: str | None, client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Trust in ``ca_file`` alone (a PEM file or a folder), or in the system's store, or certifi's where it has none.

    Raises ProviderUnavailable.
    """
    try:
        if ca_file:
            folder = os.path.isdir(ca_file)
            context = ssl.create_default_context(capath=ca_file if folder else None, cafile=None if folder else ca_file)
        else:
            paths = ssl.get_default_verify_paths()
            context = ssl.create_default_context(cafile=None if paths.cafile or paths.capath else certifi.where())
        if client_cert:
            pair = (client_cert,) if isinstance(client_cert, str) else client_cert
            context.load_cert_chain(*pair)
    except (OSError, ssl.SSLError) as exc:
        raise ProviderUnavailable(f"a certificate file cannot be used: {type(exc).__name__}: {exc.strerror}") from exc
    return context


class _HideQueries(logging.Filter):
    """urllib3 logs the target of each request, query and all: a signed URL is a secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_HideQueries())
