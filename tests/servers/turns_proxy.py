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

import hiredis

from tests.servers.process import LOOPBACK


class TurnsProxy:
    """``swallow``: the server acts on the next command with these bytes in an argument; then the connection is lost.

    Its reply is never seen. Of commands sent together all before it are acted on too, and those after it may be.
    """

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


_NOTHING = object()


class _Wire:
    """One connection. A turn begins with the first bytes of a request after a reply.

    Commands and replies are counted, because those sent together arrive in pieces: the connection must not be lost
    before the server has seen the command in question.
    """

    def __init__(self, proxy: TurnsProxy, near: socket.socket, far: socket.socket) -> None:
        self._proxy, self._near, self._far = proxy, near, far
        self._asking = False
        self._sent = _Counted()
        self._answered = _Counted()
        self._last: int | None = None
        """The number of the command whose reply is lost."""

    def start(self, run: Callable[[Callable[[], None]], None]) -> None:
        run(self._requests)
        run(self._replies)

    def _requests(self) -> None:
        while data := _receive(self._near):
            if not self._asking:
                self._asking = True
                self._proxy.count()
            for number, command in self._sent.take(data):
                marker = self._proxy.swallow
                if marker and isinstance(command, list) and any(marker in each for each in command):
                    self._proxy.swallow, self._last = b"", number
            _send(self._far, data)
        _close(self._far)

    def _replies(self) -> None:
        while data := _receive(self._far):
            if any(number == self._last for number, _ in self._answered.take(data)):
                break
            self._asking = False
            _send(self._near, data)
        _close(self._near)


class _Counted:
    """The messages of one direction, from 1. A command is written as a reply that is a list."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._count = 0

    def take(self, data: bytes) -> list[tuple[int, object]]:
        """Those that are complete with these bytes."""
        self._reader.feed(data)
        found = []
        while (message := self._reader.gets()) is not _NOTHING:
            self._count += 1
            found.append((self._count, message))
        return found


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
