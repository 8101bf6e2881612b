"""The engine's socket: accepts clients, reads what they want, and knows whose lifelines are held."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from pathlib import Path

from haulage.engine.wire import Lines, Message, encode

_BACKLOG = 128


class Visitor:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines = Lines()
        self.holds_lifeline = False

    def answer(self, **message: object) -> None:
        """Say something. One that has gone is noticed when it is read."""
        with contextlib.suppress(OSError):
            self.sock.send(encode(message))


class Reception:
    """``wait`` returns what was asked. Signals wake it, because their wake-up descriptor is among its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._visitors: set[Visitor] = set()
        self._wake_read, self._wake_write = socket.socketpair()
        for each in (self._wake_read, self._wake_write):
            each.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)

    def open(self) -> None:
        """Listen. A socket that is left over is nobody's: the lock is ours."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        os.chmod(self._path, 0o700)
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._selector.register(self._listener, selectors.EVENT_READ)

    @property
    def visitors(self) -> int:
        """Connections, also of those who have not said yet what they want."""
        return len(self._visitors)

    @property
    def lifelines(self) -> int:
        return sum(each.holds_lifeline for each in self._visitors)

    def wait(self, seconds: float) -> list[tuple[Visitor, Message]]:
        """What came within this time; returns early when something did. Lost visitors are forgotten."""
        asked: list[tuple[Visitor, Message]] = []
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
            elif self._listener is not None and key.fileobj is self._listener:
                self._accept(self._listener)
            else:
                asked += [(key.data, message) for message in self._read(key.data)]
        return asked

    def tell_all(self, **message: object) -> None:
        """Say the same to everybody."""
        for each in self._visitors:
            each.answer(**message)

    def stop_listening(self, *, unlink: bool = True) -> None:
        """Whoever comes now finds no engine, and starts one once our lock is free. ``unlink``: the path is ours."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            if unlink:
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()

    def close(self) -> None:
        """Close every connection, also in a forked child, where the path must stay."""
        if self._listener is not None:
            self._listener.close()
        for each in (*self._visitors, self):
            sockets = (each.sock,) if isinstance(each, Visitor) else (self._wake_read, self._wake_write)
            for sock in sockets:
                sock.close()
        self._selector.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            visitor = Visitor(sock)
            self._visitors.add(visitor)
            self._selector.register(sock, selectors.EVENT_READ, visitor)

    def _read(self, visitor: Visitor) -> list[Message]:
        try:
            data = visitor.sock.recv(4096)
            if data:
                return visitor.lines.feed(data)
        except BlockingIOError:
            return []
        except (OSError, ValueError):
            pass  # gone, or not one of ours
        self._selector.unregister(visitor.sock)
        visitor.sock.close()
        self._visitors.discard(visitor)
        return []
