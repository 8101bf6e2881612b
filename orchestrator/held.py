"""What a client holds in one process: connections and threads, made when first used, and anew in a forked child."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import ClientClosed, LedgerUnavailable
from orchestrator.settings import Settings
from orchestrator.views import Views

if TYPE_CHECKING:  # imported when first used: an application that submits nothing pays for neither Redis nor Celery
    from orchestrator.dispatch import Dispatcher
    from orchestrator.fleet import WorkerInfo
    from orchestrator.ledger import Ledger, Message
    from orchestrator.listeners import Listeners

T = TypeVar("T")

_FIRST_TIDY = 10_000


class Held:
    """Ledger, dispatcher and listeners of one client. Any thread may ask for them; each is made once per process.

    ``stopped`` is set when the client closes. After a fork the child starts with nothing: connections, threads and the
    transfers to cancel or pause at the end stay with the parent.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed = False
        self._start_afresh()
        _LIVE.add(self)

    def _start_afresh(self) -> None:
        self._lock = threading.RLock()
        self._ledger: Ledger | None = None
        self._dispatcher: Dispatcher | None = None
        self._listeners: Listeners | None = None
        self._mine: dict[str, None] = {}
        self._tidy_at = _FIRST_TIDY
        self.stopped = threading.Event()
        self.views = Views(self._workers)
        if self.closed:
            self.stopped.set()

    def check_open(self) -> None:
        """Raises ClientClosed (107)."""
        if self.closed:
            raise ClientClosed("this TransferClient was closed")

    @property
    def ledger(self) -> Ledger:
        """Raises ClientClosed."""
        with self._lock:
            self.check_open()
            if self._ledger is None:
                from orchestrator.connection import connect
                from orchestrator.ledger import Ledger

                self._ledger = Ledger(connect(self.settings), self.settings)
            return self._ledger

    @property
    def dispatcher(self) -> Dispatcher:
        """Raises ClientClosed."""
        with self._lock:
            self.check_open()
            if self._dispatcher is None:
                from orchestrator.dispatch import Dispatcher, make_app

                self._dispatcher = Dispatcher(make_app(self.settings))
            return self._dispatcher

    @property
    def listeners(self) -> Listeners:
        """Raises ClientClosed."""
        with self._lock:
            self.check_open()
            if self._listeners is None:
                from orchestrator.listeners import Listeners

                # Its threads keep this object alive, and not the client: one that is dropped can be noticed.
                self._listeners = Listeners(lambda: self.ledger, self.views.view)
            return self._listeners

    @property
    def in_use(self) -> bool:
        """Something was made in this process and not given back."""
        return not self.closed and any((self._ledger, self._dispatcher, self._listeners))

    def admit(self) -> bool:
        """Start what can start, and say whether anything did. If Redis goes away just now, the sweeper does it."""
        messages: list[Message] = []
        with suppress(LedgerUnavailable, ClientClosed):  # what was asked for is written
            messages = self.ledger.admit()
            if messages:
                self.dispatcher.send_all(messages)
        return bool(messages)

    def remember(self, transfer_ids: Iterable[str]) -> None:
        """These were submitted here. Those that have ended are forgotten now and then, so the list stays short."""
        with self._lock:
            self._mine.update(dict.fromkeys(transfer_ids))
            if len(self._mine) < self._tidy_at:
                return
            known = list(self._mine)
        from orchestrator.pages import live_among

        with suppress(LedgerUnavailable, ClientClosed):  # another time then: what was submitted is written
            ended = set(known) - live_among(self.ledger, known)
            with self._lock:
                for each in ended:
                    self._mine.pop(each, None)
                self._tidy_at = max(_FIRST_TIDY, 2 * len(self._mine))

    def forget(self, transfer_id: str) -> None:
        """It is no longer this client's to cancel or pause at the end."""
        with self._lock:
            self._mine.pop(transfer_id, None)

    def mine(self) -> list[str]:
        """What was submitted here and may be live, newest first."""
        with self._lock:
            return list(reversed(self._mine))

    def until_closed(self, items: Iterator[T]) -> Iterator[T]:
        """What is iterated when the client closes ends with ClientClosed, and not as if it were at its end."""
        try:
            yield from items
        except LedgerUnavailable:
            self.check_open()
            raise
        self.check_open()

    def close(self) -> None:
        """Deliver what listeners are owed, then give everything back. Safe to repeat.

        A call that another thread has under way comes to its end; what waits or iterates ends with ClientClosed.
        """
        if self._listeners:
            self._listeners.close()
        with self._lock:
            self.abandon()
            ledger, self._ledger = self._ledger, None
            dispatcher, self._dispatcher = self._dispatcher, None
            self._listeners = None
        if ledger:
            from orchestrator.connection import hang_up

            hang_up(ledger.redis)
        if dispatcher:
            dispatcher.app.close()

    def abandon(self) -> None:
        """Refuse every later call; threads notice and end. Takes no lock of ours: a finalizer may run anywhere."""
        self.closed = True
        self.stopped.set()

    def _workers(self) -> list[WorkerInfo]:
        from orchestrator.fleet import Fleet

        return Fleet(self.ledger).workers()


_LIVE: weakref.WeakSet[Held] = weakref.WeakSet()


def _after_fork() -> None:
    # Not closed: what they hold is the parent's too. And a lock may have been held by a thread that is not here.
    for held in list(_LIVE):
        held._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
