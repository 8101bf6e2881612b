"""A closer look than ``Transfer`` gives: who holds its parts, when it is tried again, what just happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.connection import connect, ledger_errors
from orchestrator.events import FROM_START, Event, read_events
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings
from orchestrator.spec import TransferSpec

HISTORY = 200
"""Failed attempts that the ledger keeps of a transfer."""


@dataclass(frozen=True, slots=True)
class Details:
    """``held``: member -> (process, received bytes); members are part numbers, ``prep`` and ``fin``."""

    held: dict[str, tuple[str, int]] = field(default_factory=dict)
    wakes_in_seconds: float = 0.0
    """Until it is tried again; 0 when nothing is planned."""

    @property
    def parts(self) -> dict[int, tuple[str, int]]:
        return {int(member): holder for member, holder in self.held.items() if member.isdigit()}


class CloserLook:
    """Reads the ledger with a connection of its own; changes nothing."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = Ledger(connect(settings), settings)

    def details(self, transfer_id: str) -> Details:
        """Raises TransferNotFound."""
        wake_ms = self._ledger.record(transfer_id).number("wake_at")
        wakes = 0.0
        if wake_ms:
            with ledger_errors():
                seconds, micros = self._ledger.redis.time()
            wakes = max(0.0, wake_ms / 1000 - int(seconds) - int(micros) / 1e6)
        return Details(self._ledger.in_flight(transfer_id), wakes)

    def spec(self, transfer_id: str) -> TransferSpec:
        """As it was submitted; it may hold a signed URL. Raises TransferNotFound, LedgerCorrupt."""
        return self._ledger.record(transfer_id).spec

    def news(self, transfer_id: str, after: str = FROM_START) -> list[Event]:
        """Events after a position, without waiting for one."""
        return read_events(self._ledger, transfer_id, after=after)

    def history(self, transfer_id: str) -> list[dict[str, Any]]:
        """All failed attempts that are kept, newest first."""
        return self._ledger.history(transfer_id, limit=HISTORY)

    def close(self) -> None:
        self._ledger.redis.close()
