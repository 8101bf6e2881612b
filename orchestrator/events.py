"""Typed events from Redis Streams: of one transfer or of all, from any past position.

``EVENTS_KEPT`` events of each transfer and ``SHARD_EVENTS_KEPT`` of each shard are kept (a few more, because Redis
drops them by the hundred), those of a transfer until its record goes. A reader that asks for older ones hears ``lost``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.connection import ledger_errors
from orchestrator.errors import InvalidSpec, TransferNotFound
from orchestrator.reading import LedgerReads, pairs_of
from orchestrator.records import Record

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
    "lost",
)
"""Every kind of event. The last of a transfer is completed, failed or cancelled.

``lost`` is no event of a transfer: it tells a reader that events between its position and the next are not kept.
"""

EVENTS_KEPT, SHARD_EVENTS_KEPT = 1_000, 100_000
"""How many events of a transfer, and of all transfers of a shard, are kept. ``lua/_lib.lua`` has the same numbers."""

FROM_START, ONLY_NEW = "0", "$"

_BATCH = 500  # fewer than are kept: whoever has lost events has a full batch of newer ones before him
_BLOCK_MS = 1000
_POSITION = re.compile(r"\d{1,20}(-\d{1,20})?")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a transfer. ``position`` resumes reading after it; ``at_ms`` is unix time in ms."""

    transfer_id: str
    kind: str
    at_ms: int
    position: str
    data: Mapping[str, Any] = field(default_factory=dict)


def follow_events(
    ledger: LedgerReads,
    transfer_id: str | None = None,
    *,
    after: str = FROM_START,
    kinds: Collection[str] | None = None,
    follow: bool = True,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Events after a position, past ones first; without an id those of all transfers.

    The order is that of time; within one millisecond only the events of one shard are in order. With ``follow`` new
    ones too: of one transfer until it has ended, of all until ``stop`` is set (it is looked at once a second).
    Positions are opaque; ``0`` is the start, ``$`` is now, and a unix time in ms that moment. Raises InvalidSpec,
    TransferNotFound, and LedgerUnavailable when Redis is away for longer than ``redis_retry_seconds``: read on after
    the last position then.
    """
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise InvalidSpec("kinds", unknown[0], ", ".join(KINDS))
    names = [stream_of(ledger, transfer_id)] if transfer_id else shard_streams(ledger)
    reader = _Reader(ledger, names, transfer_id, after)
    wanted = None if kinds is None else {*kinds, "lost"}
    ended = (lambda: _over(ledger, transfer_id)) if transfer_id else (lambda: False)
    return _read_on(reader, ended, wanted, follow=follow, stop=stop or threading.Event())


def read_events(
    ledger: LedgerReads,
    transfer_id: str | None = None,
    *,
    after: str = FROM_START,
    shard: int = 0,
    block_ms: int = 0,
    limit: int = _BATCH,
) -> list[Event]:
    """One read: events after a position, oldest first; ``block_ms`` waits for one. Without an id: those of a shard."""
    name = stream_of(ledger, transfer_id) if transfer_id else f"{ledger.prefixes[shard]}events"
    with ledger_errors():
        reply: Any = ledger.redis.xread({name: after}, count=limit, block=block_ms or None)
    rows = reply[0][1] if reply else []
    return [event_of(position, fields, transfer_id) for position, fields in rows]


def stream_of(ledger: LedgerReads, transfer_id: str) -> str:
    """The key of a transfer's events. Raises TransferNotFound for what is no transfer id."""
    return f"{ledger.prefix(transfer_id)}e:{transfer_id}"


def shard_streams(ledger: LedgerReads) -> list[str]:
    """The keys that hold the events of all transfers."""
    return [f"{prefix}events" for prefix in ledger.prefixes]


def newest(ledger: LedgerReads, names: Collection[str]) -> dict[str, str]:
    """The present end of each stream: what comes after it is new."""
    with ledger_errors(), ledger.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.xrevrange(name, count=1)
        return {
            name: rows[0][0].decode() if rows else FROM_START for name, rows in zip(names, pipe.execute(), strict=True)
        }


def oldest_if_lost(ledger: LedgerReads, name: str, after: str) -> str | None:
    """The oldest position that is kept, if events between ``after`` and it are gone; else None."""
    with ledger_errors(), ledger.redis.pipeline(transaction=False) as pipe:
        pipe.xinfo_stream(name)
        pipe.xrange(name, min=after, max=after, count=1)
        about, here = pipe.execute(raise_on_error=False)
    if isinstance(about, Exception) or here or not about["first-entry"]:
        return None
    first = about["first-entry"][0].decode()
    was_trimmed = about.get("entries-added", EVENTS_KEPT) > about["length"] or "entries-added" not in about
    return first if was_trimmed and order_of(after) < order_of(_before(first)) else None


def lost_event(transfer_id: str | None, oldest: str) -> Event:
    """What a reader hears in place of the events that are gone."""
    at_ms = order_of(oldest)[0]
    return Event(transfer_id or "", "lost", at_ms, _before(oldest), {"oldest": oldest})


def event_of(position: bytes, fields: Mapping[bytes, bytes], transfer_id: str | None = None) -> Event:
    """A row of a stream. Rows of a transfer's own stream do not name it."""
    return Event(
        transfer_id=transfer_id or fields[b"id"].decode(),
        kind=fields[b"kind"].decode(),
        at_ms=int(fields[b"at"]),
        position=position.decode(),
        data=json.loads(fields.get(b"data", b"{}")),
    )


def order_of(position: str) -> tuple[int, int]:
    """Positions of all streams compare by time: they are stamped by one server."""
    at_ms, _, serial = position.partition("-")
    return int(at_ms), int(serial or 0)


class _Reader:
    """Reads several streams as one. Its position names one of each; a batch is in the order of time."""

    def __init__(self, ledger: LedgerReads, names: list[str], transfer_id: str | None, after: str) -> None:
        self._ledger = ledger
        self._transfer_id = transfer_id
        given = after.split(",")
        given = given * len(names) if len(given) == 1 else given
        if len(given) != len(names) or not all(each == ONLY_NEW or _POSITION.fullmatch(each) for each in given):
            raise InvalidSpec("after", after, "0, $, a unix time in ms, or the position of an event")
        self._after = {name: _exactly(each) for name, each in zip(names, given, strict=True)}
        if fresh := [name for name, each in self._after.items() if each == ONLY_NEW]:
            self._after.update(newest(ledger, fresh))

    def read(self, *, block_ms: int) -> list[Event]:
        """The next events, or none after ``block_ms``; 0 does not wait."""
        after: Any = self._after
        with ledger_errors():
            reply: Any = self._ledger.redis.xread(after, count=_BATCH, block=block_ms or None)
        rows, horizon, found = [], None, []
        for key, entries in reply or []:
            name = key.decode()
            if len(entries) == _BATCH:
                end = order_of(entries[-1][0].decode())
                horizon = end if horizon is None else min(horizon, end)  # beyond it this stream is not read yet
                if oldest := oldest_if_lost(self._ledger, name, self._after[name]):
                    found.append(self._at(name, lost_event(self._transfer_id, oldest)))
            rows += [(name, event_of(position, fields, self._transfer_id)) for position, fields in entries]
        rows.sort(key=lambda each: order_of(each[1].position))
        return found + [
            self._at(name, event) for name, event in rows if horizon is None or order_of(event.position) <= horizon
        ]

    def _at(self, name: str, event: Event) -> Event:
        self._after[name] = event.position
        return replace(event, position=",".join(self._after.values()))


def _read_on(
    reader: _Reader, ended: Callable[[], bool], wanted: set[str] | None, *, follow: bool, stop: threading.Event
) -> Iterator[Event]:
    batch: list[Event] = []
    while not stop.is_set():
        # Asked before the read: what an ended transfer has to tell is all there then.
        last_read = not follow or (not batch and ended())
        batch = reader.read(block_ms=0 if last_read or batch else _BLOCK_MS)
        yield from (each for each in batch if wanted is None or each.kind in wanted)
        if last_read and not batch:
            return


def _over(ledger: LedgerReads, transfer_id: str) -> bool:
    name = f"{ledger.prefix(transfer_id)}t:{transfer_id}"
    asked = ("state", "cleanup", "told")
    with ledger_errors():
        values: Any = ledger.redis.hmget(name, asked)
    if values[0] is None:
        raise TransferNotFound(f"no transfer {transfer_id}")
    return Record(transfer_id, pairs_of({k: v for k, v in zip(asked, values, strict=True) if v is not None})).over


def _exactly(position: str) -> str:
    """A time as the position before all that happened then."""
    return _before(position) if position.isdigit() and int(position) else position


def _before(position: str) -> str:
    at_ms, serial = order_of(position)
    return f"{at_ms}-{serial - 1}" if serial else f"{at_ms - 1}-{(1 << 64) - 1}"
