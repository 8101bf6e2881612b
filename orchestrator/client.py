"""TransferClient: what an application calls. Safe to share between threads, and usable after a fork."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from orchestrator.errors import InvalidSpec, TransferNotFound
from orchestrator.held import Held
from orchestrator.selection import Filters, Selection, find_newest
from orchestrator.settings import Settings, load_settings
from orchestrator.spec import Direction
from orchestrator.steering import BulkResult, Steers, steer_many
from orchestrator.submitting import (
    Asked,
    Item,
    Place,
    Submission,
    ask,
    ask_many,
    check_direction,
    check_fleet,
    local_place,
    write_many,
    write_one,
)
from orchestrator.views import Snapshot, Transfer
from orchestrator.waiting import wait_for, wait_for_all

if TYPE_CHECKING:  # these import Redis, which waits until something is asked of it
    from orchestrator.events import Event
    from orchestrator.fleet import WorkerInfo
    from orchestrator.ledger import Ledger
    from orchestrator.listeners import Update
    from providers.plans import PresignedDownload, PresignedUpload

__all__ = ["BulkResult", "Snapshot", "Submission", "Transfer", "TransferClient"]

Transfers = list[Transfer]
Submissions = list[Submission]
History = list[dict[str, Any]]
Workers = list["WorkerInfo"]


class TransferClient(Steers):
    """Submits transfers and steers them. ``wait`` and ``events`` read the ledger; no Celery result is kept.

    Nothing is connected or started before the first call that needs it. Every call may raise LedgerUnavailable (112),
    and after ``close`` raises ClientClosed (107).
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        """``overrides`` are fields of Settings, such as ``redis_url``."""
        self.settings = settings or load_settings(**overrides)
        self._held = Held(self.settings)

    # Submitting

    def submit(self, source: Place, destination: Place, **options: Any) -> str:
        """Queue a transfer and return its id. ``options`` are fields of TransferSpec.

        Raises InvalidSpec (102) before any I/O, DuplicateTransfer (103), SubmitFailed (104), QueueFull (111).
        With an ``idempotency_key`` that was used before, the id of that transfer.
        """
        self._held.check_open()
        return self._submit(ask(self.settings, source, destination, options))

    def submit_paused(self, source: Place, destination: Place, **options: Any) -> str:
        """Register a transfer in one call of Redis; nothing else is looked at before it is resumed."""
        self._held.check_open()
        return self._write(ask(self.settings, source, destination, options), paused=True)

    def upload(self, path: Place, destination: Place, **options: Any) -> str:
        """``submit`` of what lies on this fleet's disks or in its memory; a relative path starts at the working folder.

        Raises InvalidSpec that names ``source`` when it lies elsewhere.
        """
        return self._submit_as("upload", local_place(path), destination, options)

    def download(self, source: Place, path: Place, **options: Any) -> str:
        """``submit`` to this fleet's disks or memory. Raises InvalidSpec that names the end which is not so."""
        return self._submit_as("download", source, local_place(path), options)

    def copy(self, source: Place, destination: Place, **options: Any) -> str:
        """``submit`` between two stores or servers. Raises InvalidSpec that names the end which is local."""
        return self._submit_as("copy", source, destination, options)

    def submit_many(self, items: Iterable[Item]) -> Submissions:
        """Queue many in few round trips: one outcome for each item, in order.

        An item is a mapping with ``source``, ``destination`` and options, or (source, destination[, options]). All are
        checked before the first is written: raises InvalidSpec with a field such as ``items[3].source``. From then on
        each item answers for itself, also when Redis goes away in between: see Submission.
        """
        self._held.check_open()
        all_asked = ask_many(self.settings, items)
        check_fleet(self._ledger, all_asked)
        outcomes: Submissions = []
        try:
            outcomes.extend(write_many(self._ledger, all_asked, self._held.admit))
        finally:
            self._held.remember(each.transfer_id for each in outcomes if each.status == "taken")
        self._held.admit()
        return outcomes

    def renew_plan(self, transfer_id: str, plan: PresignedUpload | PresignedDownload) -> None:
        """Give fresh URLs to a transfer that was submitted with a presigned plan; stored parts stay.

        A transfer that waits for it looks again after ``retry.wait_seconds``. Raises InvalidSpec for a plan of
        another object, grid or upload, TransferEnded.
        """
        from orchestrator.renewal import renew_plan

        renew_plan(self._ledger, transfer_id, plan)

    # Looking

    def get(self, transfer_id: str) -> Transfer:
        """The transfer now, with the rates since this client last looked at it. Raises TransferNotFound (108)."""
        from orchestrator.pages import look

        row = look(self._ledger, [transfer_id]).get(transfer_id)
        if row is None:
            raise TransferNotFound(f"no transfer {transfer_id}")
        return self._held.views.sampled(*row)

    def find(self, source: Place, destination: Place, **options: Any) -> Transfer | None:
        """The newest transfer, in any state, from this source to this destination, whatever query their URLs have.

        ``options`` that tell objects apart are ``source_profile`` and ``destination_profile``.
        """
        self._held.check_open()
        row = find_newest(self._ledger, ask(self.settings, source, destination, options))
        return self._held.views.view(*row) if row else None

    def list(self, *, limit: int = 100, start: int = 0, **filters: Unpack[Filters]) -> Transfers:
        """Transfers that match every filter, newest first: ``limit`` of them after the first ``start`` that match.

        ``state`` is one or several. Texts in URLs are searched without their query. Rates are not filled in.
        """
        for name, value in (("limit", limit), ("start", start)):
            if value < 0:
                raise InvalidSpec(name, value, "0 or more")
        rows = Selection.of(**filters).rows(self._ledger, page_size=start + limit)
        return [self._held.views.view(*row) for row in islice(rows, start, start + limit)]

    def snapshot(self) -> Snapshot:
        """How many are queued and at work now, of the whole fleet."""
        from orchestrator.pages import count_live

        return count_live(self._ledger)

    def history(self, transfer_id: str) -> History:
        """The latest failed attempts of its parts, newest first."""
        return self._ledger.history(transfer_id)

    def workers(self) -> Workers:
        """Worker processes that live now."""
        from orchestrator.fleet import Fleet

        return Fleet(self._ledger).workers()

    # Following

    def wait(self, transfer_id: str, *, timeout_seconds: float | None = None) -> Transfer:
        """Block until the transfer has ended. Raises TransferFailed, TransferCancelled (120), WaitTimeout."""
        return wait_for(self._held, transfer_id, timeout_seconds)

    def wait_all(self, transfer_ids: Sequence[str], *, timeout_seconds: float | None = None) -> Transfers:
        """Block until all have ended, and answer them in that order, however they ended. Raises WaitTimeout."""
        return wait_for_all(self._held, transfer_ids, timeout_seconds)

    def events(
        self,
        transfer_id: str | None = None,
        *,
        after: str = "0",
        kinds: Collection[str] | None = None,
        follow: bool = True,
    ) -> Iterator[Event]:
        """Events after a position, past ones first: of one transfer until it has ended, or of all without end.

        Without ``follow`` only what is there. An event's ``position`` reads on after it; ``$`` is now. Closing the
        client ends it with ClientClosed.
        """
        return self._events(transfer_id, after=after, kinds=kinds, follow=follow, stop=self._held.stopped)

    def on_progress(
        self, callback: Callable[[Update], object], transfer_id: str | None = None, *, interval_seconds: float = 0.2
    ) -> str:
        """Call ``callback`` with each event and with progress, of one transfer or of all, in a thread of this client.

        Answers the listener's id.
        """
        return self._held.listeners.add(callback, transfer_id, interval_seconds=interval_seconds)

    def remove_listener(self, listener_id: str) -> bool:
        """False: there is no such listener."""
        return self._held.listeners.remove(listener_id)

    def clear_listeners(self) -> None:
        """Remove all."""
        self._held.listeners.clear()

    # Ending

    def close(self) -> None:
        """Deliver what listeners are owed and give the connections back. The fleet goes on with the transfers."""
        self._held.close()

    def shutdown(self, *, cancel: bool = False) -> None:
        """``close``; with ``cancel`` first cancel what was submitted by this client, in this process."""
        if cancel and not self.is_closed:
            steer_many(self._ledger, self._held.mine(), "cancel")
            self._held.admit()
        self.close()

    @property
    def is_closed(self) -> bool:
        return self._held.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        held: Held | None = getattr(self, "_held", None)  # None: its settings were refused
        if held and held.in_use:
            warnings.warn("a TransferClient was dropped without close()", ResourceWarning, source=self, stacklevel=1)
            held.abandon()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a TransferClient is not copied or pickled: share it between threads, or make one from settings"
        )

    def _submit_as(self, direction: Direction, source: Place, destination: Place, options: dict[str, Any]) -> str:
        self._held.check_open()
        return self._submit(check_direction(ask(self.settings, source, destination, options), direction))

    def _submit(self, asked: Asked) -> str:
        check_fleet(self._ledger, [asked])
        return self._write(asked, paused=False)

    def _write(self, asked: Asked, *, paused: bool) -> str:
        transfer_id, is_new = write_one(self._ledger, asked, paused=paused)
        if is_new:
            self._held.remember([transfer_id])
            if not paused:
                self._held.admit()
        return transfer_id

    def _events(
        self,
        transfer_id: str | None,
        *,
        after: str,
        kinds: Collection[str] | None,
        follow: bool,
        stop: threading.Event,
    ) -> Iterator[Event]:
        from orchestrator.events import follow_events

        if transfer_id is not None:
            self._ledger.record(transfer_id)
        found = follow_events(self._ledger, transfer_id, after=after, kinds=kinds, follow=follow, stop=stop)
        return self._held.until_closed(found)

    @property
    def _ledger(self) -> Ledger:
        return self._held.ledger
