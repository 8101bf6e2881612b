"""Transfers as flat records with numbered states, for applications that store or show them so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from orchestrator.states import State
from orchestrator.views import Transfer

_NUMBERS = {
    State.QUEUED: 0,
    State.PREPARING: 0,
    State.RUNNING: 1,
    State.WAITING: 1,
    State.COMPLETING: 1,
    State.PAUSED: 2,
    State.COMPLETED: 3,
    State.FAILED: 4,
    State.CANCELLED: 5,
}


def status_number(state: State | str | None) -> int:
    """None -1, pending 0, in transmission 1, paused 2, complete 3, failed 4, cancelled 5."""
    return -1 if state is None else _NUMBERS[State(state)]


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """One transfer at one moment. Offsets are no field: only the ratio.

    ``file_sign`` is the application's own name for the object, its ``reference``. ``progress`` runs from 0.0 to 1.0 and
    is 0.0 while the total is unknown; ``total_size`` is 0 then.
    """

    task_id: str
    file_sign: str
    file_name: str
    total_size: int
    progress: float
    status: int
    direction: str

    @classmethod
    def of(cls, transfer: Transfer) -> Self:
        """A download is named by where it goes, anything else by where it comes from."""
        named_by = transfer.destination if transfer.direction == "download" else transfer.source
        is_complete = transfer.state is State.COMPLETED
        return cls(
            task_id=transfer.transfer_id,
            file_sign=transfer.reference,
            file_name=_last_name(named_by) or _last_name(transfer.source),
            total_size=transfer.progress.total_bytes or 0,
            progress=1.0 if is_complete else transfer.progress.ratio,
            status=status_number(transfer.state),
            direction=transfer.direction,
        )


def _last_name(url: str) -> str:
    path = urlsplit(url).path
    name = path.rpartition("/")[2]
    return unquote(name) if url.startswith(("http:", "https:", "file:")) else name
