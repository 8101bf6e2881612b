"""Pause, resume, cancel and retry: of one transfer, of many, of all that match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Unpack

from orchestrator.errors import DuplicateTransfer, HaulageError, InvalidState, TransferEnded, TransferNotFound
from orchestrator.held import Held
from orchestrator.selection import Filters, Selection
from orchestrator.states import State

if TYPE_CHECKING:  # it imports Redis
    from orchestrator.ledger import Ledger

_BATCH = 200
_LIVE = frozenset({State.QUEUED, State.PREPARING, State.RUNNING, State.WAITING, State.COMPLETING})
_CONCERNED = {
    "pause": _LIVE,
    "resume": frozenset({State.PAUSED}),
    "cancel": _LIVE | {State.PAUSED},
    "retry": frozenset({State.FAILED}),
}
"""What an action on many is about where no state is asked for."""
_QUEUES_AGAIN = frozenset({"resume", "retry"})


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What an action on many did. ``refused`` says for each of the others the code of its error."""

    changed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def steer_one(ledger: Ledger, transfer_id: str, action: str) -> State:
    """Raises TransferNotFound, TransferEnded (108), InvalidState (117), DuplicateTransfer (103)."""
    answer, state = ledger.steer(transfer_id, action)
    if error := _refusal(transfer_id, action, answer, state):
        raise error
    return State(state)


def steer_matching(ledger: Ledger, selection: Selection, action: str) -> BulkResult:
    """Steer what matches, in pages. What is submitted meanwhile is not touched; the call may be repeated."""
    concerned = selection.in_states(_CONCERNED[action])
    # What queues again does so in its old order; of the others the newest stop first, before they would start.
    found = concerned.rows(ledger, newest_first=action not in _QUEUES_AGAIN)
    return steer_many(ledger, (record.transfer_id for record, _ in found), action)


def steer_many(ledger: Ledger, transfer_ids: Iterable[str], action: str) -> BulkResult:
    """One transfer's error is its own: it stands in the result."""
    result = BulkResult()
    for batch in batches(transfer_ids):
        for transfer_id, answer in zip(batch, ledger.steer_many(batch, action), strict=True):
            error = answer if isinstance(answer, HaulageError) else _refusal(transfer_id, action, *answer)
            if error is None:
                result.changed.append(transfer_id)
            else:
                result.refused[transfer_id] = error.code
    return result


def batches(items: Iterable[str], size: int = _BATCH) -> Iterator[list[str]]:
    """Lists of at most ``size``, taken from ``items`` as they are asked for."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _refusal(transfer_id: str, action: str, answer: str, state: str) -> HaulageError | None:
    match answer:
        case "gone":
            return TransferNotFound(f"no transfer {transfer_id}")
        case "dup":
            return DuplicateTransfer(state)
        case "no" if State(state).final:
            return TransferEnded(f"transfer {transfer_id} is {state}: there is nothing to {action}")
        case "no":
            return InvalidState(f"transfer {transfer_id} is {state}: cannot {action}")
    return None


class Steers:
    """The part of a client that steers."""

    _held: Held

    def pause(self, transfer_id: str) -> State:
        """Busy workers stop within a second and hand their parts back. During a commit it is a wish."""
        return self._steer(transfer_id, "pause")

    def resume(self, transfer_id: str) -> State:
        """To the end of its queue. Raises InvalidState (117) unless paused."""
        return self._steer(transfer_id, "resume")

    def cancel(self, transfer_id: str) -> State:
        """Final. The multipart upload is aborted and the partial file removed, unless ``keep_partial``."""
        return self._steer(transfer_id, "cancel")

    def retry(self, transfer_id: str) -> State:
        """Queue a failed transfer again; stored parts are kept."""
        return self._steer(transfer_id, "retry")

    def pause_all(self, **filters: Unpack[Filters]) -> BulkResult:
        """Pause what is live and matches; without a filter everything. The filters are those of ``list``."""
        return self._steer_all("pause", filters)

    def resume_all(self, **filters: Unpack[Filters]) -> BulkResult:
        """Resume what is paused and matches, in the order it was submitted."""
        return self._steer_all("resume", filters)

    def cancel_all(self, **filters: Unpack[Filters]) -> BulkResult:
        """Cancel what is live or paused and matches; failed ones too with ``state="failed"``."""
        return self._steer_all("cancel", filters)

    def retry_all(self, **filters: Unpack[Filters]) -> BulkResult:
        """Retry what failed and matches, in the order it was submitted."""
        return self._steer_all("retry", filters)

    def _steer(self, transfer_id: str, action: str) -> State:
        state = steer_one(self._held.ledger, transfer_id, action)
        self._held.admit()
        return state

    def _steer_all(self, action: str, filters: Filters) -> BulkResult:
        result = steer_matching(self._held.ledger, Selection.of(**filters), action)
        if result.changed:
            self._held.admit()
        return result
