"""A TCP proxy that counts round trips: what a client of Redis pays on a real network, which loopback hides.

with TurnsProxy(server.port) as proxy:
    client = Redis(port=proxy.port)
    assert proxy.turns_of(client.ping) == 1
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.servers.process import LOOPBACK


class TurnsProxy:
    """``swallow``: the reply to the next request that holds these bytes is lost, and its connection with it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self.swallow = b""
        self.turns = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def turns_of(self, call: Callable[[], object]) -> int:
        """Round trips of one call."""
        before = self.turns
        call()
        return self.turns - before

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._listener)
        with self._lock:
            for each in self._sockets:
                _close(each)
        for thread in self._threads:
            thread.join(10)

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((LOOPBACK, self._target))
            with self._lock:
                self._sockets += [near, far]
            _Wire(self, near, far).start(self._run)

    def count(self) -> None:
        with self._lock:
            self.turns += 1


class _Wire:
    """One connection. A turn begins with the first bytes of a request after a reply."""

    def __init__(self, proxy: TurnsProxy, near: socket.socket, far: socket.socket) -> None:
        self._proxy, self._near, self._far = proxy, near, far
        self._asking = False
        self._lost = False
        self._tail = b""

    def start(self, run: Callable[[Callable[[], None]], None]) -> None:
        run(self._requests)
        run(self._replies)

    def _requests(self) -> None:
        while data := _receive(self._near):
            if not self._asking:
                self._asking = True
                self._proxy.count()
            marker = self._proxy.swallow
            if marker and marker in self._tail + data:
                self._proxy.swallow, self._lost = b"", True
            self._tail = data[-len(marker) :] if marker else b""
            _send(self._far, data)
        _close(self._far)

    def _replies(self) -> None:
        while data := _receive(self._far):
            if self._lost:
                break
            self._asking = False
            _send(self._near, data)
        _close(self._near)


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20)
    except OSError:
        return b""


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        return


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was first
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
