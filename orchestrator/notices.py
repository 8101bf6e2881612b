"""The outbox: what applications are to be told of transfers that have ended. Written by the step that ended them.

A notice stays until the application's broker has taken it, so it is sent at least once, whatever dies; one that no
broker takes for ``retention_seconds`` is given up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.connection import ledger_errors
from orchestrator.errors import TransferCancelled
from orchestrator.ledger import Ledger
from orchestrator.moves import move
from orchestrator.reading import pairs, text_of
from orchestrator.spec import DEFAULT_QUEUE

_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 500, 60_000


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to an application. ``name`` is also its task id: the same each time it is sent."""

    name: str
    transfer_id: str
    task: str
    queue: str
    tries: int
    outcome: Mapping[str, Any]
    prefix: str = field(repr=False, default="")

    @property
    def next_wait_ms(self) -> int:
        """How long to wait before it is tried again: 0.5, 1, 2 ... 60 s."""
        return min(_FIRST_WAIT_MS << min(self.tries - 1, 20), _LONGEST_WAIT_MS)


class Outbox:
    """Notices of all shards. Safe to use from many processes at once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def wait(self, seconds: float) -> None:
        """Until the bell rings, but no longer than this. Each ring wakes one waiter of the fleet."""
        with ledger_errors():
            self._ledger.redis.blpop([f"{prefix}bell" for prefix in self._ledger.prefixes], timeout=seconds)

    def claim(self, limit: int = 20) -> list[Notice]:
        """Notices that are due, ``limit`` of each shard; nobody else gets them for two leases."""
        calls: list[tuple[str, tuple[str | bytes | int | float, ...]]] = [
            (prefix, (2 * self._ledger.settings.lease_ms, limit)) for prefix in self._ledger.prefixes
        ]
        with ledger_errors():
            replies = move("notice_claim").many(self._ledger.redis, calls)
        return [
            _notice(prefix, text_of(reply[at]), pairs(reply[at + 1]))
            for prefix, reply in zip(self._ledger.prefixes, replies, strict=True)
            for at in range(0, len(reply), 2)
        ]

    def taken(self, notice: Notice) -> None:
        """The broker has it."""
        self._settle(notice, 1, 0)

    def not_taken(self, notice: Notice) -> bool:
        """The broker is away: later. False: it was tried for ``retention_seconds`` and is given up."""
        return self._settle(notice, 0, notice.next_wait_ms) != "given_up"

    def _settle(self, notice: Notice, taken: int, delay_ms: int) -> str:
        args = (notice.name, taken, delay_ms, self._ledger.settings.retention_seconds * 1000)
        with ledger_errors():
            return text_of(move("notice_settle")(self._ledger.redis, notice.prefix, *args))


def _notice(prefix: str, name: str, fields: Mapping[str, str]) -> Notice:
    return Notice(
        name=name,
        transfer_id=fields["id"],
        task=fields["task"],
        queue=fields["queue"] or DEFAULT_QUEUE,
        tries=int(fields["tries"]),
        outcome=_outcome(fields),
        prefix=prefix,
    )


def _outcome(fields: Mapping[str, str]) -> dict[str, Any]:
    """``code`` is empty and ``number`` 0 for a completed transfer."""
    error: dict[str, Any] = json.loads(fields["error"] or "{}")
    if fields["state"] == "cancelled":
        error = {"code": TransferCancelled.code, "number": TransferCancelled.number, "message": "cancelled"}
    return {
        "state": fields["state"],
        "code": error.get("code", ""),
        "number": error.get("number", 0),
        "message": error.get("message", ""),
        "result": json.loads(fields["result"] or "{}"),
        "reference": fields["reference"],
        "tenant": fields["tenant"],
    }
