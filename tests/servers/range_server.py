"""An HTTP server for tests that serves ranges well, or badly in a scripted way, and keeps a log of all it was asked.

    with RangeServer() as server:
        url = server.serve("/a.bin", DATA)                      # bytes, a Path, or Pattern(size)
        server.fault("/a.bin", status=503, headers={"Retry-After": "2"}, times=1)
        ...
        assert [each.range for each in server.requests] == ["bytes=0-99", ...]

It runs in threads of this process on 127.0.0.1; ``tls=`` takes a server-side SSLContext, ``throttle=`` bytes a second
per connection. ``PUT`` stores an object (412 under ``If-None-Match: *`` if there is one). It also answers as a forward
proxy (absolute URLs are answered by itself, ``CONNECT`` is tunnelled for real). As a process of its own:

    python -m tests.servers.range_server --port 0 --pattern 536870912 --throttle 20000000 --log requests.jsonl

prints its port as the first line and serves ``/pattern.bin``; the log gets one JSON object per answered request, and
is complete once the process has ended after SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import re
import select
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.servers.range_script import PIECE_BYTES, Content, Fault, Pattern, Request, Served

__all__ = ["Fault", "Pattern", "RangeServer", "Request", "Served"]

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class RangeServer:
    """See the module's docstring. All methods may be called while it serves."""

    def __init__(
        self,
        *,
        port: int = 0,
        throttle: int | None = None,
        tls: ssl.SSLContext | None = None,
        keep_puts: bool = True,
        log: Callable[[Request], None] | None = None,
    ) -> None:
        self.throttle = throttle
        self.keep_puts = keep_puts
        self.objects: dict[str, Served] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.log = log
        self._tls = tls
        self._http = _Server(("127.0.0.1", port), _Handler, self, tls)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join()

    @property
    def base(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many were opened so far."""
        return self._http.opened

    def serve(self, path: str, content: Content, *, etag: str | None = "", **fields: Any) -> str:
        """Serve ``content`` and return its URL. ``etag``: by default a strong one made of the path and size."""
        served = Served(content, etag, **fields)
        if etag == "":
            served.etag = f'"{hashlib.sha256(path.encode()).hexdigest()[:12]}-{served.size_bytes}"'
        self.objects[path] = served
        return self.base + path

    def fault(self, path: str, **fields: Any) -> Fault:
        """Add a fault; see ``Fault``."""
        fault = Fault(path, **fields)
        with self.lock:
            self.faults.append(fault)
        return fault

    def take_fault(self, method: str, path: str, ranged: bool) -> Fault:
        with self.lock:
            for fault in self.faults:
                fits = fault.path == path and fault.method in (None, method) and fault.ranged in (None, ranged)
                if not fits or fault.times == 0:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return Fault(path)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, where: tuple[str, int], handler: Any, owner: RangeServer, tls: ssl.SSLContext | None) -> None:
        super().__init__(where, handler)
        self.owner = owner
        self.tls = tls
        self.opened = 0
        self.live: dict[socket.socket, int] = {}
        """Open connections and their numbers, from 1."""

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        self.opened += 1
        if self.tls is not None:  # the handshake is left to the handler's thread
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.live[connection] = self.opened
        return connection, peer

    def shutdown_request(self, request: Any) -> None:
        self.live.pop(request, None)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self.live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError | ValueError):  # clients that go away are what this server is for
            super().handle_error(request, client_address)


class _HangUp(Exception):
    """The scripted end of a connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()
        self.owner = self.server.owner
        self.number = self.server.live.get(self.request, 0)
        self._began, self._paced = time.monotonic(), 0

    def log_message(self, format: str, *args: object) -> None: ...

    def send_response(self, code: int, message: str | None = None) -> None:
        self.entry.status = int(code)
        self.send_response_only(code, message)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (_HangUp, OSError):
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer(self._object)

    do_HEAD = do_POST = do_GET

    def do_PUT(self) -> None:
        self._answer(self._store)

    def do_CONNECT(self) -> None:
        self._answer(self._tunnel)

    def _answer(self, how: Callable[[str, Fault], None]) -> None:
        target = self.path
        absolute = target.startswith("http://")
        if absolute:
            target = "/" + target.split("/", 3)[3]
        path = target.partition("?")[0]
        ranged = self.headers.get("Range")
        certificate = self.request.getpeercert() if isinstance(self.request, ssl.SSLSocket) else None
        self.entry = Request(
            self.command,
            target,
            ranged,
            {name.lower(): value for name, value in self.headers.items()},
            time.time(),
            self.number,
            peer_certificate=json.dumps(certificate["subject"]) if certificate else None,
            absolute=absolute,
        )
        with self.owner.lock:
            self.owner.requests.append(self.entry)
        fault = self.owner.take_fault(self.command, path, ranged is not None)
        try:
            if fault.stall_head:
                self._hold()
            if fault.status is not None:
                self._take_body(fault)
                self._plain(fault.status, fault)
            else:
                how(path, fault)
        finally:
            if self.owner.log:
                self.owner.log(self.entry)

    def _plain(self, status: int, fault: Fault, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        usual = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body))}
        for name, value in {**usual, **headers, **fault.headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _object(self, path: str, fault: Fault) -> None:
        self._take_body(fault)
        served = self.owner.objects.get(path)
        if served is None:
            return self._plain(404, fault, b"no such object")
        if not fault.ignore_conditions and not self._condition_holds(served):
            return self._plain(412, fault)
        size = served.size_bytes
        match = _RANGE.fullmatch(self.entry.range or "")
        if match is None or fault.ignore_range or not served.ranges or self.command == "HEAD":
            return self._send(200, served, 0, size, fault)
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if start >= stop:
            return self._plain(416, fault, Content_Range=f"bytes */{fault.total or size}")
        return self._send(206, served, start, stop, fault)

    def _condition_holds(self, served: Served) -> bool:
        wanted, since = self.headers.get("If-Match"), self.headers.get("If-Unmodified-Since")
        return wanted in (None, "*", served.etag) and since in (None, served.last_modified)

    def _send(self, status: int, served: Served, start: int, stop: int, fault: Fault) -> None:
        body, length = served.pieces(start, stop), stop - start
        headers = {"Date": formatdate(usegmt=True), "Content-Type": "application/octet-stream"}
        if fault.gzip:
            packed = gzip.compress(b"".join(body))
            body, length = iter([packed]), len(packed)
            headers["Content-Encoding"] = "gzip"
        if fault.announce > 0:
            body = _and_then(body, b"x" * fault.announce)
        length += fault.announce
        if served.etag:
            headers["ETag"] = served.etag
        if served.last_modified:
            headers["Last-Modified"] = served.last_modified
        if served.ranges:
            headers["Accept-Ranges"] = "bytes"
        if status == 206:
            claimed = start + fault.shift_start
            headers["Content-Range"] = (
                f"bytes {claimed}-{stop - 1 + fault.shift_start}/{fault.total or served.size_bytes}"
            )
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif fault.close_delimited:
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(length)
        headers |= served.headers
        headers |= fault.headers
        self.send_response(status)
        for name, value in headers.items():
            if name not in fault.without:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body, length, fault)
        if fault.close_delimited:
            raise _HangUp

    def _send_body(self, body: Iterator[bytes], length: int, fault: Fault) -> None:
        ends = {fault.cut: self._cut, fault.reset: self._reset, fault.stall: self._hold}
        until = next((at for at in ends if at is not None), None)
        left = length if until is None else min(until, length)
        for piece in body:
            piece = piece[:left]
            if piece:
                self._write(piece, fault)
            left -= len(piece)
            if not left:
                break
        if until is not None:
            ends[until]()
        if fault.chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.write(fault.surplus)

    def _write(self, piece: bytes, fault: Fault) -> None:
        left = memoryview(piece)
        while left:  # asked anew each time: a test may end the drip or the throttle
            step = 1 if fault.drip_seconds else len(left)
            if self.owner.throttle:
                step = max(1, min(step, self.owner.throttle // 20))
            data, left = left[:step], left[step:]
            if fault.chunked:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), bytes(data)))
            else:
                self.wfile.write(data)
            self.entry.bytes_sent += len(data)
            self._pace(len(data), fault.drip_seconds)

    def _pace(self, count: int, pause: float | None) -> None:
        if self.owner.throttle:
            self._paced += count
            ahead = self._paced / self.owner.throttle - (time.monotonic() - self._began)
            if ahead < -0.2:  # idle time is no credit
                self._began, self._paced = time.monotonic(), 0
            pause = max(pause or 0.0, ahead)
        if pause and pause > 0 and self.owner.stopping.wait(pause):
            raise _HangUp

    def _cut(self) -> None:
        raise _HangUp

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.live.pop(self.connection, None)
        self.connection.close()
        raise _HangUp

    def _hold(self) -> None:
        """Until the client goes away or the server stops."""
        while not self.owner.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.05)
            if readable and not self.connection.recv(1):
                break
        raise _HangUp

    def _take_body(self, fault: Fault, keep: bool = False) -> bytes:
        """Read what the client sends. Without ``keep`` it is only counted."""
        left = int(self.headers.get("Content-Length") or 0)
        if fault.answer_before_body and left:
            self.close_connection = True
            return b""
        held = bytearray()
        while left:
            data = self.rfile.read1(min(left, PIECE_BYTES))
            if not data:
                raise _HangUp
            left -= len(data)
            self.entry.bytes_received += len(data)
            if keep:
                held += data
            self._pace(len(data), None)
        return bytes(held)

    def _store(self, path: str, fault: Fault) -> None:
        there = self.owner.objects.get(path)
        body = self._take_body(fault, keep=self.owner.keep_puts)
        if self.headers.get("If-None-Match") == "*" and there and not fault.ignore_conditions:
            return self._plain(412, fault)
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        content = body if self.owner.keep_puts else Pattern(self.entry.bytes_received)
        self.owner.objects[path] = Served(content, etag)
        return self._plain(200 if there else 201, fault, ETag=etag)

    def _tunnel(self, path: str, fault: Fault) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: far, far: self.connection}
            while not self.owner.stopping.is_set():
                for end in select.select(list(ends), [], [], 0.05)[0]:
                    data = end.recv(64 << 10)
                    if not data:
                        raise _HangUp
                    ends[end].sendall(data)
        raise _HangUp


def _and_then(pieces: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    yield from pieces
    yield last


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve ranges of a file or of a generated pattern on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pattern", type=int, metavar="BYTES", help="serve /pattern.bin of this size")
    parser.add_argument("--file", type=Path, help="serve this file under its name")
    parser.add_argument("--throttle", type=int, metavar="BYTES_PER_SECOND", help="for each connection")
    parser.add_argument("--log", type=Path, help="append one JSON object per answered request")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(options.log.open("a", buffering=1)) if options.log else None
        lock = threading.Lock()

        def write(entry: Request) -> None:
            with lock:
                print(json.dumps(asdict(entry)), file=log, flush=True)

        server = stack.enter_context(
            RangeServer(port=options.port, throttle=options.throttle, keep_puts=False, log=write if log else None)
        )
        if options.pattern is not None:
            server.serve("/pattern.bin", Pattern(options.pattern))
        if options.file:
            server.serve(f"/{options.file.name}", options.file)
        print(server.port, flush=True)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()


if __name__ == "__main__":
    main()
