"""An HTTP/1.1 proxy in front of one server: it logs every request with the bytes that really passed, and does harm.

    with LoggingProxy(server.endpoint) as proxy:
        proxy.bytes_per_second = 1 << 20                    # each connection, each direction; None: as fast as it goes
        proxy.drop_reply("POST", "uploadId=")               # the server acts, the client never hears of it
        proxy.delay_reply(3, "PUT", "partNumber=1")         # the server acts, the client hears of it late
        proxy.cut_after(5 << 20, "PUT", "partNumber=2")     # the connection dies after so many bytes of that body
        proxy.answer("POST", "uploadId=", status=200, body=b"<Error>...")   # the server is not asked
        ...
        proxy.part_bytes("key")                             # {part number: [bytes of each attempt]}

Requests keep their Host header, so signatures made for ``proxy.endpoint`` hold. As a program:
``python -m tests.servers.logging_proxy http://127.0.0.1:8333 --port 9000 --bytes-per-second 1000000``
prints one JSON line per finished request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 64 << 10


@dataclass(slots=True)
class Entry:
    """One request, written as it goes on: a request that never ended shows the bytes it got to."""

    method: str
    path: str
    """Decoded, without the query."""
    query: str
    range: str = ""
    status: int = 0
    """0 while there was no reply, also when it was dropped or the connection was cut."""
    sent_bytes: int = 0
    """Bytes of the request's body that were passed on."""
    received_bytes: int = 0
    """Bytes of the reply's body that were passed on."""
    began: float = field(default_factory=time.time)
    ended: float | None = None
    fault: str = ""

    @property
    def part_number(self) -> int | None:
        number = parse_qs(self.query).get("partNumber")
        return int(number[0]) if number else None


@dataclass(slots=True)
class _Fault:
    kind: Literal["drop_reply", "delay_reply", "cut", "answer"]
    method: str
    contains: str
    nth: int
    times: int
    after_bytes: int = 0
    reply: bytes = b""
    seconds: float = 0.0
    seen: int = 0

    def strikes(self, entry: Entry) -> bool:
        if entry.method != self.method or self.contains not in f"{entry.path}?{entry.query}":
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class LoggingProxy:
    """Runs in a thread of its own. ``bytes_per_second`` and the faults may be changed while it runs."""

    def __init__(self, target: str, *, port: int = 0, bytes_per_second: int | None = None) -> None:
        self.target = target
        self.bytes_per_second = bytes_per_second
        self.log: list[Entry] = []
        self.on_end: Callable[[Entry], None] | None = None
        self._faults: list[_Fault] = []
        self._port = port
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="logging-proxy", daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # faults: the n-th request (from 1) of that method whose "path?query" contains the text, ``times`` in a row

    def drop_reply(self, method: str, contains: str = "", *, nth: int = 1, times: int = 1) -> None:
        """Pass the request on, wait for the whole reply, and close the connection instead of passing it back."""
        self._faults.append(_Fault("drop_reply", method, contains, nth, times))

    def delay_reply(self, seconds: float, method: str, contains: str = "", *, nth: int = 1, times: int = 1) -> None:
        """Pass the request on at once, and its reply so much later, or after ``calm``."""
        self._faults.append(_Fault("delay_reply", method, contains, nth, times, seconds=seconds))

    def calm(self) -> None:
        """No throttle and no faults any more; replies that were held back are passed on."""
        self.bytes_per_second = None
        self._faults = []

    def cut_after(self, count: int, method: str, contains: str = "", *, nth: int = 1, times: int = 1) -> None:
        """Close the connection after at least ``count`` bytes of the request's body, or the reply's if it has none."""
        self._faults.append(_Fault("cut", method, contains, nth, times, after_bytes=count))

    def answer(
        self,
        method: str,
        contains: str = "",
        *,
        status: int,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        nth: int = 1,
        times: int = 1,
    ) -> None:
        """Read the request and answer it here; the server never sees it."""
        lines = [f"HTTP/1.1 {status} Canned", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
        reply = "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if method == "HEAD" else body)
        self._faults.append(_Fault("answer", method, contains, nth, times, reply=reply))

    # what happened

    def requests(self, method: str, contains: str = "") -> list[Entry]:
        return [each for each in list(self.log) if each.method == method and contains in f"{each.path}?{each.query}"]

    def part_bytes(self, key: str) -> dict[int, list[int]]:
        """Part number -> body bytes of each UploadPart for a path that ends with ``key``, finished or not."""
        found: dict[int, list[int]] = {}
        for each in list(self.log):
            number = each.part_number
            if each.method == "PUT" and number is not None and each.path.endswith(key):
                found.setdefault(number, []).append(each.sent_bytes)
        return found

    def wait_for(self, condition: Callable[[LoggingProxy], bool], *, seconds: float = 60.0) -> None:
        """Wait until ``condition(proxy)`` holds; it is asked again whenever bytes pass. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), seconds):
                raise TimeoutError(f"not seen within {seconds} s; last: {self.log[-3:]}")

    # life

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await _Connection(self, reader, writer).run()
            except asyncio.CancelledError:
                pass  # stop() was called
            finally:
                connections.discard(task)

        listener = socket.create_server(("127.0.0.1", self._port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)  # else a throttled part vanishes into it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only on sockets it made
        server = await asyncio.start_server(accept, sock=listener, limit=PIECE)
        self._port = listener.getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        await asyncio.sleep(0)  # what was accepted just now has a task, which must begin before it can clean up
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _begin(self, entry: Entry) -> list[_Fault]:
        self.log.append(entry)
        self._notify()
        return [fault for fault in self._faults if fault.strikes(entry)]

    def _end(self, entry: Entry) -> None:
        entry.ended = time.time()
        self._notify()
        if self.on_end is not None:
            self.on_end(entry)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Cut(Exception):
    """This connection ends here."""


class _Connection:
    """One client connection and its own connection to the server; requests pass one after the other."""

    def __init__(self, proxy: LoggingProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.reader, self.writer = reader, writer
        self.pending: deque[tuple[Entry, list[_Fault]]] = deque()

    async def run(self) -> None:
        url = urlsplit(self.proxy.target)
        upstream: asyncio.StreamWriter | None = None
        tasks: list[asyncio.Task[None]] = []
        try:
            answers, upstream = await asyncio.open_connection(url.hostname, url.port or 80, limit=PIECE)
            tasks = [asyncio.create_task(self._up(upstream)), asyncio.create_task(self._down(answers))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            # First what needs no waiting: stop() may cancel this task also while it waits below.
            for writer in (self.writer, upstream):
                if writer is not None:
                    writer.transport.abort()  # what a killed peer looks like: nothing more comes
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                for entry, _ in self.pending:
                    self.proxy._end(entry)

    async def _up(self, upstream: asyncio.StreamWriter) -> None:
        while head := await _head(self.reader):
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            fields = _fields(head)
            path, _, query = target.partition("?")
            entry = Entry(method, unquote(path), query, range=fields.get("range", ""))
            faults = self.proxy._begin(entry)
            entry.fault = ",".join(fault.kind for fault in faults)
            canned = next((fault for fault in faults if fault.kind == "answer"), None)
            if canned is None:
                self.pending.append((entry, faults))
            elif "100-continue" in fields.get("expect", ""):
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            sink = None if canned else upstream
            if sink:
                sink.write(head)
            async for piece in _body(self.reader, fields, self._piece_bytes(), unframed=0):
                entry.sent_bytes += len(piece)  # before it is passed on: whoever got the reply finds the log complete
                if sink:
                    sink.write(piece)
                    await sink.drain()
                await self._passed(piece, entry.sent_bytes, faults)
            if canned is not None:
                entry.status = int(canned.reply.split(b" ", 2)[1])
                self.proxy._end(entry)
                self.writer.write(canned.reply)
                await self.writer.drain()

    async def _down(self, answers: asyncio.StreamReader) -> None:
        while head := await _head(answers):
            status = int(head.split(b" ", 2)[1])
            if status < 200:
                self.writer.write(head)
                continue
            entry, faults = self.pending[0]
            await self._delay(faults)
            dropped = any(fault.kind == "drop_reply" for fault in faults)
            if not dropped:
                entry.status = status
                self.writer.write(head)
            fields = {} if entry.method == "HEAD" or status in (204, 304) else _fields(head)
            unframed = sys.maxsize if fields else 0  # such a reply ends with its connection
            async for piece in _body(answers, fields, self._piece_bytes(), unframed=unframed):
                if dropped:
                    continue
                entry.received_bytes += len(piece)
                self.writer.write(piece)
                await self.writer.drain()
                await self._passed(piece, entry.received_bytes, [] if entry.sent_bytes else faults)
            if dropped:
                raise _Cut
            self.pending.popleft()
            self.proxy._end(entry)

    async def _delay(self, faults: list[_Fault]) -> None:
        until = time.monotonic() + sum(fault.seconds for fault in faults)
        while time.monotonic() < until and any(each is fault for each in self.proxy._faults for fault in faults):
            await asyncio.sleep(0.02)

    def _piece_bytes(self) -> int:
        rate = self.proxy.bytes_per_second
        return PIECE if not rate else max(1024, min(PIECE, rate // 20))

    async def _passed(self, piece: bytes, so_far: int, faults: list[_Fault]) -> None:
        self.proxy._notify()
        if any(fault.kind == "cut" and so_far >= fault.after_bytes for fault in faults):
            raise _Cut
        if self.proxy.bytes_per_second:
            await asyncio.sleep(len(piece) / self.proxy.bytes_per_second)


async def _head(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        return await reader.readuntil(b"\r\n\r\n")
    return b""


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


async def _body(
    reader: asyncio.StreamReader, fields: dict[str, str], piece_bytes: int, *, unframed: int
) -> AsyncIterator[bytes]:
    """The body as it is on the wire, chunk headers included, in pieces. ``unframed``: its length if nothing says."""
    if "chunked" in fields.get("transfer-encoding", ""):
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if size == 0:
                return
    left = int(fields.get("content-length", unframed))
    while left:
        piece = await reader.read(min(piece_bytes, left))
        if not piece:
            return
        left -= len(piece)
        yield piece


def main() -> None:
    parser = argparse.ArgumentParser(prog="logging_proxy", description="Log the requests to one HTTP server.")
    parser.add_argument("target", help="http://host:port")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bytes-per-second", type=int, default=None, help="per connection and direction")
    asked = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text stream, as long as this is a program
    proxy = LoggingProxy(asked.target, port=asked.port, bytes_per_second=asked.bytes_per_second)

    def show(entry: Entry) -> None:
        sys.stdout.write(json.dumps(asdict(entry)) + "\n")

    proxy.on_end = show
    with proxy:
        sys.stdout.write(json.dumps({"endpoint": proxy.endpoint}) + "\n")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
