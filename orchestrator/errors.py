"""Errors of the orchestrator itself. Each has a stable ``code`` and, where the field has one, a ``number``.

HaulageError
├── RuntimeFailed        101  a background service could not be started
├── InvalidSpec          102  a value was refused: names the field, the value, what is allowed
├── DuplicateTransfer    103  a live transfer already writes to this destination; ``transfer_id`` is the first one's
├── SubmitFailed         104  the ledger could not take the transfer
├── ClientClosed         107  the client was closed
├── TransferNotFound     108  no such transfer
│   └── TransferEnded    108  the transfer has ended: nothing can be done to it any more
├── QueueFull            111  the queue of this direction is full: an error at once, never a wait
├── LedgerUnavailable    112  Redis did not answer in time
├── InvalidState         117  not allowed in the transfer's present state
├── LedgerCorrupt        118  a record of the ledger cannot be read
├── TransferCancelled    120  the transfer was cancelled
├── TransferFailed            the transfer failed; ``code`` and ``number`` are those of its cause
└── WaitTimeout               the transfer did not end in time
"""

from __future__ import annotations

from typing import ClassVar


class HaulageError(Exception):
    """Base of the orchestrator's errors. Callers branch on ``code`` or ``number``, never on text."""

    code: str = "haulage_error"
    number: int = -1
    retryable: ClassVar[bool] = False


class RuntimeFailed(HaulageError):
    """A background thread or process could not be started."""

    code = "runtime_failed"
    number = 101


class InvalidSpec(HaulageError, ValueError):
    """A value was refused before any I/O."""

    code = "invalid_value"
    number = 102

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is refused; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed

    def __reduce__(self) -> tuple[type[InvalidSpec], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.allowed)


class DuplicateTransfer(HaulageError):
    """Two live transfers to one destination would overwrite each other: the second is refused when submitted."""

    code = "duplicate"
    number = 103

    def __init__(self, transfer_id: str) -> None:
        super().__init__(f"transfer {transfer_id} already writes to this destination")
        self.transfer_id = transfer_id

    def __reduce__(self) -> tuple[type[DuplicateTransfer], tuple[str]]:
        return type(self), (self.transfer_id,)


class SubmitFailed(HaulageError):
    """The ledger refused or could not store the transfer."""

    code = "submit_failed"
    number = 104


class ClientClosed(HaulageError):
    """The client was closed and takes no further calls."""

    code = "client_closed"
    number = 107


class TransferNotFound(HaulageError):
    """No transfer has this id, or it ended longer ago than the retention."""

    code = "transfer_not_found"
    number = 108


class TransferEnded(TransferNotFound):
    """The transfer has ended for good."""

    code = "transfer_ended"


class QueueFull(HaulageError):
    """Too many transfers are queued. Try again later; nothing was stored."""

    code = "queue_full"
    number = 111


class LedgerUnavailable(HaulageError):
    """Redis cannot be reached or did not answer within the retry budget."""

    code = "ledger_unavailable"
    number = 112
    retryable = True


class InvalidState(HaulageError):
    """The operation is not allowed in the present state, such as resuming what is not paused."""

    code = "invalid_state"
    number = 117


class LedgerCorrupt(HaulageError):
    """A record is not readable by this version: of an unknown schema, or damaged."""

    code = "ledger_corrupt"
    number = 118


class TransferCancelled(HaulageError):
    """The awaited transfer was cancelled."""

    code = "cancelled"
    number = 120


class TransferFailed(HaulageError):
    """The awaited transfer failed. ``code`` and ``number`` are those of the cause."""

    code = "transfer_failed"

    def __init__(self, transfer_id: str, code: str, number: int, message: str, status: int | None = None) -> None:
        super().__init__(f"transfer {transfer_id} failed: {code}: {message}")
        self.transfer_id = transfer_id
        self.code = code
        self.number = number
        self.message = message
        self.status = status
        """What the server answered, such as 403, where the cause is an answer over HTTP."""

    def __reduce__(self) -> tuple[type[TransferFailed], tuple[str, str, int, str, int | None]]:
        return type(self), (self.transfer_id, self.code, self.number, self.message, self.status)


class WaitTimeout(HaulageError, TimeoutError):
    """``wait`` gave up; the transfer itself goes on."""

    code = "wait_timeout"
