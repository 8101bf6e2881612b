"""What an application sees of a transfer, and how a record of the ledger becomes that."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LedgerCorrupt
from orchestrator.progress import Meter, Progress
from orchestrator.records import Record
from orchestrator.states import State
from providers.schemes import redact

if TYPE_CHECKING:  # it imports Redis, which a client that only looks at values does not need
    from orchestrator.fleet import WorkerInfo

_MOVING = (State.RUNNING, State.WAITING)
_SAMPLE_SECONDS = 1.0
"""Workers report received bytes once a second: rates over less would jump between nothing and too much."""
_METERS = 1000
_WORKERS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer as it stood when it was read. Times are unix seconds. URLs are shown without their query.

    ``reason`` says why no byte moves just now. ``error`` has ``code``, ``number`` and ``message`` of what failed it;
    ``result`` what a completed one stored. Rates in ``progress`` are 0.0 until this client has seen it move.
    """

    transfer_id: str
    state: State
    reason: str
    source: str
    destination: str
    direction: str
    progress: Progress
    error: dict[str, Any]
    result: dict[str, Any]
    tenant: str
    reference: str
    created_at: float
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How much is going on at one point in time. Paused transfers are counted nowhere.

    ``active_keys``: direction and destination identity of each active one. Not for persistence.
    """

    queued: int
    active: int
    active_keys: list[tuple[str, str]] = field(default_factory=list)


class Views:
    """Makes transfers of records. ``workers`` is asked at most once a second, and only when a transfer stands still."""

    def __init__(self, workers: Callable[[], list[WorkerInfo]]) -> None:
        self._ask_workers = workers
        self._workers: tuple[float, list[WorkerInfo]] | None = None
        self._rates = Rates()

    def view(self, record: Record, received_bytes: int = 0) -> Transfer:
        """``received_bytes`` are those in flight, without a receipt."""
        fields = record.fields
        source, destination = shown_ends(record)
        return Transfer(
            transfer_id=record.transfer_id,
            state=record.state,
            reason=fields.get("reason", "") or self._why_idle(record),
            source=source,
            destination=destination,
            direction=fields.get("direction", ""),
            progress=_progress(record, received_bytes),
            error=record.data("error"),
            result=record.data("result"),
            tenant=fields.get("tenant", ""),
            reference=fields.get("reference", ""),
            created_at=record.number("created") / 1000,
            started_at=record.number("started") / 1000 or None,
            ended_at=record.number("ended") / 1000 or None,
        )

    def sampled(self, record: Record, received_bytes: int) -> Transfer:
        """The same with rate and time left, where this transfer was looked at before: one sample gives no rate."""
        return replace(self.view(record), progress=self.sample(record, received_bytes))

    def sample(self, record: Record, received_bytes: int) -> Progress:
        """Its progress, noted for the rates that a later look will show."""
        progress = _progress(record, received_bytes)
        if record.state not in _MOVING:
            self._rates.forget(record.transfer_id)
            return progress
        return self._rates.sample(record.transfer_id, progress)

    def _why_idle(self, record: Record) -> str:
        """``no_worker`` while nobody serves the queue that the transfer's next message goes to."""
        if record.state not in (State.PREPARING, State.RUNNING, State.COMPLETING):
            return ""
        from orchestrator.fleet import serves

        queue = record.fields.get("q" if record.state is State.RUNNING else "qc", "")
        return "" if any(serves(worker, queue) for worker in self._live_workers()) else "no_worker"

    def _live_workers(self) -> list[WorkerInfo]:
        kept, now = self._workers, time.monotonic()
        if kept is None or now - kept[0] > _WORKERS_SECONDS:
            kept = self._workers = (now, self._ask_workers())
        return kept[1]


class Rates:
    """Rates of the transfers that were looked at lately, each over at least a second. Bounded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: OrderedDict[str, tuple[Meter, float, Progress]] = OrderedDict()

    def sample(self, transfer_id: str, progress: Progress) -> Progress:
        """Fill in the rates; within a second of the last sample those of then."""
        now = self._clock()
        with self._lock:
            meter, at, before = self._last.get(transfer_id) or (Meter(), None, progress)
            if at is not None and now - at < _SAMPLE_SECONDS:
                return replace(
                    progress,
                    bytes_per_second=before.bytes_per_second,
                    smoothed_bytes_per_second=before.smoothed_bytes_per_second,
                    eta_seconds=before.eta_seconds,
                )
            filled = meter.sample(now, progress)
            self._last[transfer_id] = (meter, now, filled)
            self._last.move_to_end(transfer_id)
            while len(self._last) > _METERS:
                self._last.popitem(last=False)
            return filled

    def forget(self, transfer_id: str) -> None:
        """It moves no more: a later sample would average over the time it stood still."""
        with self._lock:
            self._last.pop(transfer_id, None)


def _progress(record: Record, received_bytes: int) -> Progress:
    plan, done = record.plan, record.number("done_bytes")
    flying = received_bytes if record.state in _MOVING else 0
    return Progress(done, done + flying, plan.size_bytes, record.number("done"), plan.part_count)


def shown_ends(record: Record) -> tuple[str, str]:
    """Source and destination without what may be secret; a record of another version still has a row."""
    try:
        spec = record.spec
    except LedgerCorrupt:
        return "(unknown schema)", "(unknown schema)"
    return redact(spec.source), redact(spec.destination)
