"""TransferClient: what an application calls. Safe to share between threads."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from orchestrator.connection import connect
from orchestrator.dispatch import Dispatcher, make_app
from orchestrator.errors import (
    ClientClosed,
    DuplicateTransfer,
    InvalidState,
    LedgerCorrupt,
    LedgerUnavailable,
    QueueFull,
    TransferCancelled,
    TransferEnded,
    TransferFailed,
    TransferNotFound,
    WaitTimeout,
)
from orchestrator.events import FROM_START, Event, follow_events
from orchestrator.fleet import Fleet, WorkerInfo, check_against_fleet, serves
from orchestrator.ledger import Ledger
from orchestrator.progress import Progress
from orchestrator.queues import control_queue
from orchestrator.records import Record
from orchestrator.settings import Settings, load_settings
from orchestrator.spec import build_spec, destination_identity, dump_spec
from orchestrator.states import State
from providers.schemes import redact

_PAGE = 200
History = list[dict[str, Any]]
Workers = list[WorkerInfo]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer as it stood when it was read. Times are unix seconds. URLs are shown without their query."""

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


Transfers = list[Transfer]


class TransferClient:
    """Submits transfers and steers them. ``wait`` and ``events`` read the ledger; no Celery result is kept."""

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        """``overrides`` are fields of Settings, such as ``redis_url``. Nothing is connected yet."""
        self.settings = settings or load_settings(**overrides)
        self._ledger_made: Ledger | None = None
        self._dispatcher_made: Dispatcher | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, source: str, destination: str, **options: Any) -> str:
        """Queue a transfer and return its id. ``options`` are fields of TransferSpec.

        Raises InvalidSpec (102) before any I/O, DuplicateTransfer (103), QueueFull (111), LedgerUnavailable (112).
        With an ``idempotency_key`` that was used before, the id of that transfer.
        """
        return self._submit(source, destination, options, paused=False)

    def submit_paused(self, source: str, destination: str, **options: Any) -> str:
        """Register a transfer without any I/O; it starts when it is resumed."""
        return self._submit(source, destination, options, paused=True)

    def get(self, transfer_id: str) -> Transfer:
        """Raises TransferNotFound (108)."""
        return self._view(self._ledger.record(transfer_id), in_flight=True)

    def list(self, *, state: State | str | None = None, limit: int = 100, start: int = 0) -> list[Transfer]:
        """Newest first, at most ``limit`` in ``state``, from position ``start`` of all transfers."""
        found: Transfers = []
        workers = Fleet(self._ledger).workers()
        while len(found) < limit and (ids := self._ledger.list_ids(start=start, limit=_PAGE)):
            views = (self._view(each, in_flight=False, workers=workers) for each in self._ledger.records(ids))
            found += [each for each in views if state is None or each.state == state]
            start += len(ids)
        return found[:limit]

    def wait(self, transfer_id: str, *, timeout_seconds: float | None = None) -> Transfer:
        """Block until the transfer has ended. Raises TransferFailed, TransferCancelled (120), WaitTimeout."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        pause = 0.01
        while True:
            record = self._ledger.record(transfer_id)
            if record.state is State.COMPLETED:
                return self._view(record, in_flight=False)
            if record.state is State.FAILED:
                error = record.data("error")
                raise TransferFailed(
                    transfer_id, error.get("code", "unknown"), error.get("number", -1), error.get("message", "")
                )
            if record.state is State.CANCELLED and record.over:
                raise TransferCancelled(f"transfer {transfer_id} was cancelled")
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"transfer {transfer_id} is still {record.state} after {timeout_seconds} s")
            time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 1.5, 0.25)

    def pause(self, transfer_id: str) -> State:
        """Busy workers stop within a second and hand their parts back. During a commit it is a wish."""
        return self._steer(transfer_id, "pause")

    def resume(self, transfer_id: str) -> State:
        """Raises InvalidState (117) unless paused."""
        return self._steer(transfer_id, "resume")

    def cancel(self, transfer_id: str) -> State:
        """Final. The multipart upload is aborted and the partial file removed, unless ``keep_partial``."""
        return self._steer(transfer_id, "cancel")

    def retry(self, transfer_id: str) -> State:
        """Queue a failed transfer again; stored parts are kept."""
        return self._steer(transfer_id, "retry")

    def events(self, transfer_id: str, *, after: str = FROM_START) -> Iterator[Event]:
        """Events from any past position until the transfer has ended."""
        self._ledger.record(transfer_id)
        return follow_events(self._ledger, transfer_id, after=after)

    def history(self, transfer_id: str) -> History:
        """The latest failed attempts of its parts, newest first."""
        return self._ledger.history(transfer_id)

    def workers(self) -> Workers:
        """Worker processes that live now."""
        return Fleet(self._ledger).workers()

    def close(self) -> None:
        """Give the connections back. Transfers go on: the fleet does not need this process."""
        with self._lock:
            self._closed = True
            ledger, self._ledger_made = self._ledger_made, None
            dispatcher, self._dispatcher_made = self._dispatcher_made, None
        if ledger:
            ledger.redis.close()
        if dispatcher:
            dispatcher.app.close()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, source: str, destination: str, options: dict[str, Any], *, paused: bool) -> str:
        self._open()
        spec, parsed_source, parsed_destination = build_spec(
            self.settings, source=source, destination=destination, **options
        )
        ledger = self._ledger
        fleet = Fleet(ledger)
        check_against_fleet(spec, parsed_source, parsed_destination, fleet.workers(), fleet.hosts(), self.settings)
        identity = destination_identity(spec, parsed_destination)
        key = spec.idempotency_key
        answer = ledger.submit(
            ledger.new_id(identity),
            destination=identity,
            spec=dump_spec(spec),
            direction=spec.direction,
            priority=spec.priority,
            idempotency=hashlib.sha256(f"{identity}\0{key}".encode()).hexdigest()[:32] if key else "",
            not_before_ms=int((spec.not_before or 0) * 1000),
            paused=paused,
            control_queue=control_queue(parsed_source, parsed_destination, self.settings),
            tenant=spec.tenant,
            reference=spec.reference or "",
            keep_partial=spec.keep_partial,
        )
        if answer.outcome == "dup":
            raise DuplicateTransfer(answer.transfer_id)
        if answer.outcome == "full":
            raise QueueFull(f"{self.settings.queue_capacity} {spec.direction}s are queued already")
        if answer.outcome == "ok" and not paused:
            self._admit()
        return answer.transfer_id

    def _admit(self) -> None:
        """Start what can start. If Redis goes away just now, the sweeper does it: what was asked for is written."""
        with suppress(LedgerUnavailable):
            self._dispatcher.send_all(self._ledger.admit())

    def _steer(self, transfer_id: str, action: str) -> State:
        ledger = self._ledger
        answer, state = ledger.steer(transfer_id, action)
        match answer:
            case "gone":
                raise TransferNotFound(f"no transfer {transfer_id}")
            case "dup":
                raise DuplicateTransfer(state)
            case "no" if State(state).final:
                raise TransferEnded(f"transfer {transfer_id} is {state}: there is nothing to {action}")
            case "no":
                raise InvalidState(f"transfer {transfer_id} is {state}: cannot {action}")
        self._admit()
        return State(state)

    def _view(self, record: Record, *, in_flight: bool, workers: Workers | None = None) -> Transfer:
        fields, plan = record.fields, record.plan
        done = record.number("done_bytes")
        flying = 0
        if in_flight and record.state in (State.RUNNING, State.WAITING):
            flying = sum(received for _, received in self._ledger.in_flight(record.transfer_id).values())
        source, destination = _shown(record)
        return Transfer(
            transfer_id=record.transfer_id,
            state=record.state,
            reason=fields.get("reason", "") or self._why_idle(record, workers),
            source=source,
            destination=destination,
            direction=fields.get("direction", ""),
            progress=Progress(done, done + flying, plan.size_bytes, record.number("done"), plan.part_count),
            error=record.data("error"),
            result=record.data("result"),
            tenant=fields.get("tenant", ""),
            reference=fields.get("reference", ""),
            created_at=record.number("created") / 1000,
            started_at=record.number("started") / 1000 or None,
            ended_at=record.number("ended") / 1000 or None,
        )

    def _why_idle(self, record: Record, workers: Workers | None) -> str:
        """``no_worker`` while nobody serves the queue that the transfer's next message goes to."""
        if record.state not in (State.PREPARING, State.RUNNING, State.COMPLETING):
            return ""
        queue = record.fields.get("q" if record.state is State.RUNNING else "qc", "")
        workers = Fleet(self._ledger).workers() if workers is None else workers
        return "" if any(serves(worker, queue) for worker in workers) else "no_worker"

    def _open(self) -> None:
        if self._closed:
            raise ClientClosed("this TransferClient was closed")

    @property
    def _ledger(self) -> Ledger:
        self._open()
        with self._lock:
            if self._ledger_made is None:
                self._ledger_made = Ledger(connect(self.settings), self.settings)
            return self._ledger_made

    @property
    def _dispatcher(self) -> Dispatcher:
        with self._lock:
            if self._dispatcher_made is None:
                self._dispatcher_made = Dispatcher(make_app(self.settings))
            return self._dispatcher_made


def _shown(record: Record) -> tuple[str, str]:
    """Both ends without what may be secret; a record of another version still has a row."""
    try:
        spec = record.spec
    except LedgerCorrupt:
        return "(unknown schema)", "(unknown schema)"
    return redact(spec.source), redact(spec.destination)
