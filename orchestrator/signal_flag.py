"""A flag for signal handlers: ``threading.Event`` takes a lock that the code they interrupt may hold, and hangs."""

from __future__ import annotations

import time

_SLICE_SECONDS = 0.05


class SignalFlag:
    """Like an Event, for one thread and the handlers that run in it."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Until it is set, at most this long; answers whether it is."""
        until = time.monotonic() + seconds
        while not self._is_set and (left := until - time.monotonic()) > 0:
            time.sleep(min(_SLICE_SECONDS, left))
        return self._is_set
