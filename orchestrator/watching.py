"""One look at the ledger for all listeners: new events, records and received bytes, in one round trip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.connection import ledger_errors
from orchestrator.events import Event, event_of
from orchestrator.reading import LedgerReads, pairs_of, text_of
from orchestrator.records import Record

BATCH = 500
"""At most this many events of a stream in one look."""


@dataclass(frozen=True, slots=True)
class Seen:
    """``events`` by stream; ``flying`` are bytes received of parts that have no receipt yet; ``working`` ids."""

    events: dict[str, list[Event]]
    records: dict[str, Record]
    flying: dict[str, int]
    working: set[str]


def look(ledger: LedgerReads, *, after: Mapping[str, str], transfers: Collection[str], working: bool = False) -> Seen:
    """Events after a position in each stream (there must be one), and these transfers as they were at that same moment.

    ``working``: also the ids of all transfers that hold a slot. Raises LedgerUnavailable.
    """
    ids = list(transfers)
    slots = [f"{prefix}slots:{each}" for prefix in ledger.prefixes for each in ledger.settings.slots()]
    positions: Any = dict(after)
    with ledger_errors(), ledger.redis.pipeline(transaction=True) as pipe:
        pipe.xread(positions, count=BATCH)
        for each in ids:
            prefix = ledger.prefix(each)
            pipe.hgetall(f"{prefix}t:{each}")
            pipe.hvals(f"{prefix}v:{each}")
        for name in slots if working else ():
            pipe.smembers(name)
        streams, *rest = pipe.execute()
    found = zip(ids, rest[: 2 * len(ids) : 2], rest[1 : 2 * len(ids) : 2], strict=True)
    known = {each: (Record(each, pairs_of(fields)), sum(map(int, flying))) for each, fields, flying in found if fields}
    return Seen(
        events=_events(streams),
        records={each: record for each, (record, _) in known.items()},
        flying={each: flying for each, (_, flying) in known.items()},
        working={text_of(each) for members in rest[2 * len(ids) :] for each in members},
    )


def _events(streams: Any) -> dict[str, list[Event]]:
    found = {}
    for key, rows in streams or []:
        name = text_of(key)
        _, colon, of_one = name.rpartition("}:e:")
        found[name] = [event_of(position, fields, of_one if colon else None) for position, fields in rows]
    return found
