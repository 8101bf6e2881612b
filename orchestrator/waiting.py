"""Waiting for the end of transfers by looking again, at first soon and then four times a second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from orchestrator.errors import TransferCancelled, TransferFailed, TransferNotFound, WaitTimeout
from orchestrator.held import Held
from orchestrator.records import Record
from orchestrator.states import State
from orchestrator.views import Transfer

_FIRST_SECONDS, _LONGEST_SECONDS = 0.01, 0.25
_LOOKS_A_SECOND = 2_000


def wait_for(held: Held, transfer_id: str, timeout_seconds: float | None) -> Transfer:
    """Raises TransferFailed, TransferCancelled (120), WaitTimeout, TransferNotFound; ClientClosed once it is closed."""
    for pause in pauses(timeout_seconds):
        state, ended = look_for_end(held, transfer_id)
        if ended:
            return ended
        if pause is None:
            raise WaitTimeout(f"transfer {transfer_id} is still {state} after {timeout_seconds} s")
        held.stopped.wait(pause)
    raise AssertionError("pauses end with None")


def wait_for_all(held: Held, transfer_ids: Sequence[str], timeout_seconds: float | None) -> list[Transfer]:
    """All of them in the order asked for, however they ended. Raises WaitTimeout, TransferNotFound."""
    waiting = WaitingForAll(held, transfer_ids, timeout_seconds)
    for pause in pauses(timeout_seconds):
        if waiting.look(is_last=pause is None):
            break
        held.stopped.wait(waiting.rest(pause))
    return waiting.ended()


class WaitingForAll:
    """A wait for several: ``look`` until it is True, with a ``rest`` in between, then ``ended``."""

    def __init__(self, held: Held, transfer_ids: Sequence[str], timeout_seconds: float | None) -> None:
        self._held = held
        self._asked = transfer_ids
        self._timeout_seconds = timeout_seconds
        self._ended: dict[str, Transfer] = {}
        self._left = list(dict.fromkeys(transfer_ids))

    def look(self, *, is_last: bool) -> bool:
        """Whether all have ended. Raises WaitTimeout if not and it ``is_last``, and TransferNotFound."""
        from orchestrator.pages import look

        seen = look(self._held.ledger, self._left) if self._left else {}
        if gone := [each for each in self._left if each not in seen]:
            raise TransferNotFound(f"no transfer {gone[0]}")
        view = self._held.views.view
        self._ended |= {each: view(record) for each, (record, _) in seen.items() if record.over}
        self._left = [each for each in self._left if each not in self._ended]
        if self._left and is_last:
            some = (
                f"{len(self._left)} transfers have not ended after {self._timeout_seconds} s, such as {self._left[0]}"
            )
            raise WaitTimeout(some)
        return not self._left

    def rest(self, pause: float | None) -> float:
        """Seconds until the next look: longer while many are left."""
        return max(pause or 0.0, len(self._left) / _LOOKS_A_SECOND)

    def ended(self) -> list[Transfer]:
        """In the order asked for."""
        return [self._ended[each] for each in self._asked]


def look_for_end(held: Held, transfer_id: str) -> tuple[State, Transfer | None]:
    """One look: the state, and the transfer if it completed. Raises what ``wait`` raises at the end."""
    from orchestrator.pages import look

    row = look(held.ledger, [transfer_id]).get(transfer_id)
    if row is None:
        raise TransferNotFound(f"no transfer {transfer_id}")
    record, received = row
    _raise_if_lost(record)
    held.views.sample(record, received)
    return record.state, held.views.view(record) if record.state is State.COMPLETED else None


def pauses(timeout_seconds: float | None) -> Iterator[float | None]:
    """Seconds to wait before the next look; None when the time is over, and after that nothing."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    pause = _FIRST_SECONDS
    while deadline is None or time.monotonic() < deadline:
        yield pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic()))
        pause = min(pause * 1.5, _LONGEST_SECONDS)
    yield None


def _raise_if_lost(record: Record) -> None:
    if record.state is State.FAILED:
        error = record.data("error")
        code, number, message = error.get("code", "unknown"), error.get("number", -1), error.get("message", "")
        raise TransferFailed(record.transfer_id, code, number, message, error.get("status"))
    if record.state is State.CANCELLED and record.over:
        raise TransferCancelled(f"transfer {record.transfer_id} was cancelled")
