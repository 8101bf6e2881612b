"""What Flower shows of a task: one line of text per row, made only while somebody watches.

Celery prints the return value of a task into the event that ends it, and stores it in the set of a chord's results. A
``Row`` prints itself, and is stored as ``null``.
"""

from __future__ import annotations

import time
from typing import Any

from celery import signals

from orchestrator.records import Lease
from providers.schemes import Location
from workers.endpoints import Endpoints

PROGRESS = "task-progress"
"""An event of a type of our own: Flower shows the state PROGRESS, and the event's ``result``."""
_EVERY_SECONDS = 1.0
_NAMED_PARTS = 8
_MIB = 1 << 20
_consumer: Any = None


@signals.worker_ready.connect(weak=False)
def _remember(sender: Any = None, **_kwargs: Any) -> None:
    """The consumer owns the sender of events, and makes another one after each loss of its connection."""
    global _consumer
    _consumer = sender


def watched() -> bool:
    """Whether task events are on: Flower and ``celery events`` switch them on, and nobody else pays for rows."""
    events = getattr(_consumer, "event_dispatcher", None)
    # It is enabled for heartbeats all the time, and then limited to the group ``worker``.
    return events is not None and events.enabled and (not events.groups or "task" in events.groups)


class Row:
    """A task's return value: printed as its text, stored as nothing."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text if watched() else ""

    def __json__(self) -> None:
        """For the result set of a chord: it must not grow with what only a screen needs."""


class LaneRow(Row):
    """The row of one part task: which parts it moved, how fast, from where to where; or why it moved none."""

    def __init__(self, task_id: str | None) -> None:
        super().__init__()
        self.why = ""
        self._task_id = task_id
        self._parts: list[int] = []
        self._size_bytes = 0
        self._seconds = 0.0
        self._ends: Endpoints | None = None
        self._said = 0.0

    def claimed(self, lease: Lease, ends: Endpoints) -> None:
        """Say what is on its way now, if somebody watches; at most once a second."""
        self._ends = ends
        if self._task_id is None or not watched() or time.monotonic() - self._said < _EVERY_SECONDS:
            return
        self._said = time.monotonic()
        attempt = f"attempt {lease.attempt}" if lease.attempt > 1 else ""
        text = _joined(_part(lease, ends), attempt, *_where(ends))
        _consumer.event_dispatcher.send(PROGRESS, uuid=self._task_id, result=text)

    def stored(self, part_number: int, size_bytes: int, seconds: float) -> None:
        """A part has its receipt."""
        self._parts.append(part_number)
        self._size_bytes += size_bytes
        self._seconds += seconds

    def left(self, lease: Lease, why: str) -> None:
        """A part was claimed and not stored."""
        self.why = f"{_part(lease, self._ends)}: {why}" if self._ends else why

    def __repr__(self) -> str:
        if not watched():
            return ""
        ends = self._ends
        if ends is None or not self._parts:
            return _joined(self.why or "nothing left", *(_where(ends) if ends else ()))
        return _joined(_parts(self._parts, ends), _speed(self._size_bytes, self._seconds), *_where(ends), self.why)


def _joined(*pieces: str) -> str:
    return " · ".join(each for each in pieces if each)


def _part(lease: Lease, ends: Endpoints | None) -> str:
    if lease.member == "0":
        return "one stream"
    return f"part {lease.member}/{ends.plan.part_count}" if ends else f"part {lease.member}"


def _parts(numbers: list[int], ends: Endpoints) -> str:
    count = ends.plan.part_count or "?"  # a stream learns it at its end
    if len(numbers) == 1:
        return f"part {numbers[0]}/{count}"
    named = ", ".join(map(str, numbers[:_NAMED_PARTS]))
    more = len(numbers) - _NAMED_PARTS
    return f"parts {named}{f' and {more} more' if more > 0 else ''} of {count}"


def _speed(size_bytes: int, seconds: float) -> str:
    size = f"{size_bytes / _MIB:.1f} MiB" if size_bytes >= _MIB else f"{size_bytes / 1024:.1f} KiB"
    return f"{size} at {size_bytes / max(seconds, 1e-6) / _MIB:.1f} MiB/s"


def _where(ends: Endpoints) -> tuple[str, str]:
    """Pool, and both hosts: never a path, a key or a query."""
    pool = ends.record.fields.get("q", "").removeprefix("haulage.")
    return pool, f"{place(ends.source_location)} -> {place(ends.destination_location)}"


def place(location: Location) -> str:
    """The host of a URL, the bucket, or the machine of a file."""
    scheme = location.scheme
    match scheme.kind:
        case "http":
            return location.host
        case "bucket":
            return f"{scheme.name}:{location.bucket}"
        case "path":
            return f"{scheme.name}:{location.host}"
        case _:
            return scheme.name
