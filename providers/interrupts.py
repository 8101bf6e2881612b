"""Lets another thread end a wait for the network: a pause must not sit out the time-out of a silent server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from providers.errors import StopRequested

REPLY_GRACE_SECONDS = 0.5
"""A body that was sent whole is about to be acknowledged: cut off at once, it would have to be sent again."""

_here = threading.local()


class Interrupt:
    """What one thread waits for. ``fire`` may be called from any thread; ``alive`` is told that bytes moved."""

    def __init__(self, alive: Callable[[], None] = lambda: None) -> None:
        self.alive = alive
        self._lock = threading.Lock()
        self._fired = False
        self._waiting_on: socket.socket | None = None
        self._grace_seconds = 0.0

    def fire(self) -> None:
        """End the present wait, and refuse every later one."""
        with self._lock:
            self._fired = True
            if self._waiting_on is not None:
                self._cut(self._waiting_on)

    def enter(self, sock: socket.socket, grace_seconds: float) -> None:
        """Raises StopRequested when it was fired already, unless the wait has a grace."""
        with self._lock:
            if self._fired and not grace_seconds:
                raise StopRequested("interrupted")
            self._waiting_on, self._grace_seconds = sock, grace_seconds
            if self._fired:
                self._cut(sock)

    def leave(self) -> None:
        """The wait is over; the socket may go on to other threads."""
        with self._lock:
            self._waiting_on = None

    def _cut(self, sock: socket.socket) -> None:
        if self._grace_seconds:
            timer = threading.Timer(self._grace_seconds, self._cut_if_still_waiting, (sock,))
            timer.daemon = True
            timer.start()
        else:
            _shut_down(sock)

    def _cut_if_still_waiting(self, sock: socket.socket) -> None:
        with self._lock:
            if self._waiting_on is sock:
                _shut_down(sock)


@contextmanager
def interruptible(interrupt: Interrupt) -> Iterator[None]:
    """Within the block, network waits of this thread end when ``interrupt`` fires."""
    before = getattr(_here, "interrupt", None)
    _here.interrupt = interrupt
    try:
        yield
    finally:
        _here.interrupt = before


@contextmanager
def waiting(sock: socket.socket, *, grace_seconds: float = 0.0) -> Iterator[Callable[[], None]]:
    """Around each wait on ``sock``; gives what to call when bytes moved."""
    interrupt: Interrupt | None = getattr(_here, "interrupt", None)
    if interrupt is None:
        yield _nobody_counts
        return
    interrupt.enter(sock, grace_seconds)
    try:
        yield interrupt.alive
    finally:
        interrupt.leave()


def _shut_down(sock: socket.socket) -> None:
    # Not the socket's own method: an SSLSocket would forget its cipher while the other thread reads.
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _nobody_counts() -> None:
    """For threads that cannot be interrupted."""
