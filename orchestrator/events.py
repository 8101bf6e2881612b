"""Typed events from a Redis Stream: of one transfer or of all, from any past position."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.connection import ledger_errors
from orchestrator.ledger import Ledger

KINDS = (
    "queued",
    "probed",
    "started",
    "progress",
    "waiting",
    "retrying",
    "paused",
    "resumed",
    "completed",
    "failed",
    "cancelled",
)
"""Every kind of event. The last of a transfer is completed, failed or cancelled."""

FROM_START, ONLY_NEW = "0", "$"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a transfer. ``position`` resumes reading after it; ``at_ms`` is unix time in ms."""

    transfer_id: str
    kind: str
    at_ms: int
    position: str
    data: Mapping[str, Any] = field(default_factory=dict)


def read_events(
    ledger: Ledger,
    transfer_id: str | None = None,
    *,
    after: str = FROM_START,
    shard: int = 0,
    block_ms: int = 0,
    limit: int = 500,
) -> list[Event]:
    """Events after a position, oldest first; ``block_ms`` waits for one. Without an id: those of a whole shard."""
    name = ledger.prefix(transfer_id) + f"e:{transfer_id}" if transfer_id else f"{ledger.prefixes[shard]}events"
    with ledger_errors():
        reply: Any = ledger.redis.xread({name: after}, count=limit, block=block_ms or None)
    rows = reply[0][1] if reply else []
    return [_event(position, fields, transfer_id) for position, fields in rows]


def follow_events(ledger: Ledger, transfer_id: str, *, after: str = FROM_START) -> Iterator[Event]:
    """Events of one transfer, past ones first, until it has ended."""
    while True:
        for event in read_events(ledger, transfer_id, after=after, block_ms=1000):
            after = event.position
            yield event
        record = ledger.record(transfer_id)
        if record.over and not read_events(ledger, transfer_id, after=after, limit=1):
            return


def _event(position: bytes, fields: Mapping[bytes, bytes], transfer_id: str | None) -> Event:
    return Event(
        transfer_id=transfer_id or fields[b"id"].decode(),
        kind=fields[b"kind"].decode(),
        at_ms=int(fields[b"at"]),
        position=position.decode(),
        data=json.loads(fields.get(b"data", b"{}")),
    )
