"""The two threads behind callbacks: one looks at the ledger, one calls."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import ClientClosed, LedgerUnavailable, RuntimeFailed
from orchestrator.events import Event, oldest_if_lost, order_of
from orchestrator.ledger import Ledger
from orchestrator.mailbox import Listener, Mailbox, Shown, Update
from orchestrator.progress import Meter, Progress, finished
from orchestrator.records import Record
from orchestrator.states import State
from orchestrator.watching import BATCH, Seen, look

if TYPE_CHECKING:  # the client imports this module
    from orchestrator.views import Transfer

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_MOVING = frozenset({State.RUNNING, State.WAITING, State.COMPLETING})


class Runner:
    """The two threads, from the first listener to the last."""

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        view: Callable[[Record], Transfer],
        listeners: Callable[[], list[Listener]],
        before: Runner | None,
    ) -> None:
        self._ledger = ledger
        self._view = view
        self._listeners = listeners
        self._mailbox = Mailbox()
        self._working: set[str] = set()
        self._wake = threading.Event()
        self._window = 0.0
        self._closing = False
        self.ending = False
        self._watcher = threading.Thread(target=self._watch, name="haulage-listeners", daemon=True)
        self._caller = threading.Thread(target=self._call, args=(before,), name="haulage-callbacks", daemon=True)
        try:
            self._caller.start()
            self._watcher.start()
        except RuntimeError as exc:
            self.end()
            raise RuntimeFailed(f"the threads of progress callbacks could not be started: {exc}") from exc

    @property
    def is_calling(self) -> bool:
        """Whether a callback asks."""
        return threading.current_thread() is self._caller

    def look_soon(self) -> None:
        """Somebody is new."""
        self._wake.set()

    def end(self) -> None:
        """Nobody listens any more."""
        self.ending = True
        self._wake.set()
        self._mailbox.close()

    def finish(self, seconds: float) -> None:
        """One last look, then the end of both threads; waits for it unless a callback asks."""
        self._closing = True
        self._wake.set()
        if self.is_calling:
            return
        deadline = time.monotonic() + seconds
        self._watcher.join(seconds)
        self._mailbox.close()
        self._caller.join(max(0.0, deadline - time.monotonic()))
        if self._caller.is_alive():
            log.warning("progress callbacks were not done after %g s: the rest is dropped", seconds)

    def _watch(self) -> None:
        try:
            while not self.ending:
                is_last = self._closing
                pause = self._look_safely()
                if is_last:
                    return
                self._wake.wait(pause)
                self._wake.clear()
        except ClientClosed:
            log.debug("the client was closed")
        finally:
            self._mailbox.close()

    def _call(self, before: Runner | None) -> None:
        if before:
            before._caller.join()  # never two callbacks at once
        while (item := self._mailbox.get()) is not None:
            listener, update = item
            if listener not in self._listeners():
                continue
            try:
                listener.callback(update)
            except (Exception, SystemExit):
                log.exception("a progress callback raised: transfers and other callbacks go on")

    def _look_safely(self) -> float | None:
        """Look; answers how many seconds to rest, None until woken. A fault costs one look: nothing was passed over."""
        listeners = [each for each in self._listeners() if not each.over]
        if not listeners:
            return None
        try:
            self._look(self._ledger(), listeners)
        except LedgerUnavailable as exc:
            log.warning("progress callbacks wait for the ledger: %s", exc)
            return 1.0
        except ClientClosed:
            raise
        except Exception:
            log.exception("progress callbacks could not be served: they are tried again")
            return 1.0
        return max(0.01, min(_LOOK_SECONDS, *(each.interval_seconds for each in listeners)))

    def _look(self, ledger: Ledger, listeners: list[Listener]) -> None:
        now = time.monotonic()
        self._window = ledger.settings.renew_seconds
        after: dict[str, str] = {}
        for listener in listeners:
            for name, position in listener.after.items():
                after[name] = min(position, after.get(name, position), key=order_of)
        due = {id_ for each in listeners for id_ in self._ids(each) if self._shown(each, id_).due_at <= now}
        for_all = any(each.transfer_id is None for each in listeners)
        seen = look(ledger, after=after, transfers=due, working=for_all)
        self._working = seen.working
        self._tell_events(ledger, listeners, seen)
        for listener in listeners:
            if not listener.over:
                self._tell_progress(listener, seen, now)

    def _ids(self, listener: Listener) -> Iterable[str]:
        return self._working if listener.transfer_id is None else (listener.transfer_id,)

    def _shown(self, listener: Listener, transfer_id: str) -> Shown:
        if transfer_id not in listener.shown:
            listener.shown[transfer_id] = Shown(Meter(self._window))
        return listener.shown[transfer_id]

    # State changes

    def _tell_events(self, ledger: Ledger, listeners: list[Listener], seen: Seen) -> None:
        found: dict[tuple[tuple[int, int], str], tuple[Event, set[str]]] = {}
        for name, events in seen.events.items():
            for event in events:
                # The same event has the same position in both of its streams.
                found.setdefault((order_of(event.position), event.transfer_id), (event, set()))[1].add(name)
        told = [found[each] for each in sorted(found) if found[each][0].kind != "progress"]
        missing = {event.transfer_id for event, _ in told} - set(seen.records)
        records = {**seen.records, **{each.transfer_id: each for each in ledger.records(sorted(missing)) if missing}}
        self._say_lost(ledger, listeners, seen)
        for event, names in told:
            record = records.get(event.transfer_id)
            for listener in listeners:
                if record and any(_is_new(listener, name, event) for name in names):
                    self._tell_event(listener, event, record, seen.flying.get(event.transfer_id, 0))
        for listener in listeners:
            for name in listener.after.keys() & seen.events.keys():
                end = seen.events[name][-1].position
                listener.after[name] = max(end, listener.after[name], key=order_of)

    def _tell_event(self, listener: Listener, event: Event, record: Record, flying: int) -> None:
        transfer = self._viewed(record)
        if transfer is None:
            return
        shown = self._shown(listener, event.transfer_id)
        if event.kind == "completed":
            progress = finished(_flying(transfer.progress, flying), record.data("result").get("size_bytes"))
            smoothed = shown.last.smoothed_bytes_per_second if shown.last else 0.0
            transfer = replace(transfer, progress=replace(progress, smoothed_bytes_per_second=smoothed))
            self._mailbox.put(listener, Update(transfer), droppable=False)
        else:
            transfer = replace(transfer, progress=_flying(transfer.progress, flying))
        self._mailbox.put(listener, Update(transfer, event), droppable=False)
        shown.due_at = min(shown.due_at, 0.0)
        if event.kind in ("completed", "failed", "cancelled"):
            del listener.shown[event.transfer_id]
            listener.over = listener.transfer_id is not None and event.kind != "failed"

    def _say_lost(self, ledger: Ledger, listeners: list[Listener], seen: Seen) -> None:
        full = {name for name, events in seen.events.items() if len(events) == BATCH}
        for listener in listeners if full else ():
            for name in listener.after.keys() & full:
                if oldest := oldest_if_lost(ledger, name, listener.after[name]):
                    log.warning("a progress callback missed events before %s: they are not kept", oldest)

    # Progress frames

    def _tell_progress(self, listener: Listener, seen: Seen, now: float) -> None:
        for transfer_id in self._ids(listener):
            record, shown = seen.records.get(transfer_id), self._shown(listener, transfer_id)
            if record is None or shown.due_at > now:
                continue
            shown.due_at = now + listener.interval_seconds if not record.state.ended else float("inf")
            transfer = self._viewed(record) if record.state in _MOVING else None
            if transfer is None:
                continue
            progress = shown.meter.sample(now, _flying(transfer.progress, seen.flying[transfer_id]))
            last, shown.last = shown.last, progress
            if last is None or not _same(last, progress):
                self._mailbox.put(listener, Update(replace(transfer, progress=progress)), droppable=True)
        if listener.transfer_id is None:
            for gone in listener.shown.keys() - self._working:
                del listener.shown[gone]

    def _viewed(self, record: Record) -> Transfer | None:
        try:
            return self._view(record)
        except Exception:
            log.exception("a transfer cannot be shown to progress callbacks: %s", record.transfer_id)
            return None


def _is_new(listener: Listener, name: str, event: Event) -> bool:
    return name in listener.after and order_of(event.position) > order_of(listener.after[name])


def _flying(progress: Progress, flying: int) -> Progress:
    return replace(progress, received_bytes=progress.durable_bytes + flying)


def _same(last: Progress, now: Progress) -> bool:
    """Nothing moved, and the last frame said so already."""
    counted = (last.durable_bytes, last.received_bytes, last.total_bytes, last.parts_done)
    return (
        counted == (now.durable_bytes, now.received_bytes, now.total_bytes, now.parts_done)
        and last.bytes_per_second == now.bytes_per_second == 0
    )
