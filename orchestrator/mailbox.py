"""Updates on their way to callbacks: first in, first out, and bounded for what may be dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.events import Event
from orchestrator.progress import Meter, Progress

if TYPE_CHECKING:  # the client imports this module
    from orchestrator.views import Transfer

QUEUE_LIMIT = 2048
"""Updates that may wait for the callback thread. Beyond it progress frames are dropped, state changes never."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a callback gets. ``event`` says what happened; None: a progress frame, with rates and time left.

    ``transfer`` is as it was when the ledger was read: after a burst of events it may be further than ``event``.
    """

    transfer: Transfer
    event: Event | None = None


Callback = Callable[[Update], object]


@dataclass(slots=True)
class Shown:
    """What a listener was last shown of a transfer."""

    meter: Meter
    due_at: float = 0.0
    last: Progress | None = None


@dataclass(slots=True, eq=False)
class Listener:
    """``after``: how far it has read each of its streams. ``over``: its one transfer is final, nothing can follow."""

    listener_id: str
    callback: Callback
    transfer_id: str | None
    interval_seconds: float
    after: dict[str, str]
    shown: dict[str, Shown] = field(default_factory=dict)
    over: bool = False


class Mailbox:
    """First in, first out, bounded for what may be dropped."""

    def __init__(self) -> None:
        self._items: deque[tuple[Listener, Update]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, listener: Listener, update: Update, *, droppable: bool) -> None:
        """When it is full, drop a frame; wait with anything else, unless nobody may wait any more."""
        with self._changed:
            if droppable and len(self._items) >= QUEUE_LIMIT:
                return
            self._changed.wait_for(lambda: len(self._items) < QUEUE_LIMIT or self._closed)
            self._items.append((listener, update))
            self._changed.notify_all()

    def get(self) -> tuple[Listener, Update] | None:
        """The next, or None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        """What is in it can still be taken; nobody waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
