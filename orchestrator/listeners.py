"""Callbacks of an application: for one transfer or for all, in order, on one thread, and none that nobody needs."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.errors import ClientClosed, InvalidSpec
from orchestrator.events import FROM_START, newest, shard_streams, stream_of
from orchestrator.ledger import Ledger
from orchestrator.mailbox import Callback, Listener, Update
from orchestrator.records import Record
from orchestrator.runner import Runner

if TYPE_CHECKING:  # the client imports this module
    from orchestrator.views import Transfer

__all__ = ["Listeners", "Update"]

_DELIVER_SECONDS = 5.0


class Listeners:
    """Registered callbacks. For each event those of its transfer are called first, then those for all transfers.

    A callback may add and remove listeners, close the client, sleep or raise: it delays or loses nothing but progress
    frames. In a forked child nothing is registered: callbacks stay with the process that registered them.
    """

    def __init__(self, ledger: Callable[[], Ledger], view: Callable[[Record], Transfer]) -> None:
        """``ledger`` is asked at each look; when it raises ClientClosed the threads end."""
        self._ledger = ledger
        self._view = view
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._listeners: dict[str, Listener] = {}
        self._runner: Runner | None = None
        self._closed = False

    def add(self, callback: Callback, transfer_id: str | None = None, *, interval_seconds: float = 0.2) -> str:
        """Call ``callback`` for one transfer, from its first event on, or for all transfers from now on.

        At most one progress frame per transfer and ``interval_seconds``. Answers the listener's id. Raises
        InvalidSpec, TransferNotFound, LedgerUnavailable, ClientClosed, and RuntimeFailed without a thread.
        """
        self._mind_fork()
        if not interval_seconds > 0:
            raise InvalidSpec("interval_seconds", interval_seconds, "more than 0 seconds")
        ledger = self._ledger()
        if transfer_id is None:
            after = newest(ledger, shard_streams(ledger))
        else:
            ledger.record(transfer_id)
            after = {stream_of(ledger, transfer_id): FROM_START}
        listener = Listener(str(uuid.uuid4()), callback, transfer_id, interval_seconds, after)
        with self._lock:
            if self._closed:
                raise ClientClosed("this TransferClient was closed")
            if self._runner is None or self._runner.ending:
                self._runner = Runner(self._ledger, self._view, self._ordered, self._runner)
            self._listeners[listener.listener_id] = listener
            self._runner.look_soon()
        return listener.listener_id

    def remove(self, listener_id: str) -> bool:
        """Nothing more is called but what is about to be at this moment. False: no such listener."""
        self._mind_fork()
        with self._lock:
            found = self._listeners.pop(listener_id, None)
            if not self._listeners and self._runner:
                self._runner.end()
        return found is not None

    def clear(self) -> None:
        """Remove all."""
        self._mind_fork()
        with self._lock:
            self._listeners.clear()
            if self._runner:
                self._runner.end()

    def close(self) -> None:
        """Look once more, deliver what is there (for at most 5 s), and end the threads. May be called by a callback."""
        self._mind_fork()
        with self._lock:
            self._closed = True
            runner = self._runner
        if runner:
            runner.finish(_DELIVER_SECONDS)
        if not (runner and runner.is_calling):  # else what is queued is delivered after the callback has returned
            self.clear()

    def _ordered(self) -> list[Listener]:
        """A copy: listeners of one transfer first, then those of all, each in the order they came."""
        with self._lock:
            return sorted(self._listeners.values(), key=lambda each: each.transfer_id is None)

    def _mind_fork(self) -> None:
        if self._pid != os.getpid():
            self._reset()
