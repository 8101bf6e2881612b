"""Reads many transfers: by age and filter in pages of one round trip, or by id in one."""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.connection import ledger_errors
from orchestrator.moves import move
from orchestrator.reading import LedgerReads, pairs, pairs_of, text_of
from orchestrator.records import Record
from orchestrator.states import State
from orchestrator.views import Snapshot

PAGE = 200
"""Transfers in one page: some hundred KB at most, so that no other caller of Redis waits long."""
_LOOKS = 5_000
"""Records that Redis compares for one page: a few milliseconds."""
_STATES = 2_000

Row = tuple[Record, int]
"""A record, and the bytes received of its parts in flight."""


def rows(
    ledger: LedgerReads,
    wanted: Mapping[str, Collection[str]],
    *,
    newest_first: bool = True,
    page_size: int = PAGE,
    prefixes: Sequence[str] = (),
) -> Iterator[Row]:
    """Transfers by the time they were submitted whose fields have one of the wanted values; read while iterated.

    What is submitted meanwhile neither shifts nor repeats a page. ``prefixes`` are the shards; default all.
    """
    shards = [
        _rows_of_shard(
            ledger, prefix, json.dumps({name: list(each) for name, each in wanted.items()}), newest_first, page_size
        )
        for prefix in prefixes or ledger.prefixes
    ]
    return heapq.merge(*shards, key=lambda row: row[0].number("created"), reverse=newest_first)


def _rows_of_shard(ledger: LedgerReads, prefix: str, wanted: str, newest_first: bool, page_size: int) -> Iterator[Row]:
    more, last_id, last_ms = True, "", "0"
    while more:
        args = (last_id, last_ms, int(newest_first), _LOOKS, page_size, wanted)
        with ledger_errors():
            reply = move("page")(ledger.redis, prefix, *args)
        more, last_id, last_ms = bool(reply[0]), text_of(reply[1]), text_of(reply[2])
        for at in range(3, len(reply), 3):
            yield Record(text_of(reply[at]), pairs(reply[at + 1])), int(reply[at + 2])


def look(ledger: LedgerReads, transfer_ids: Sequence[str]) -> dict[str, Row]:
    """These transfers, in one round trip; those that are gone are left out. Raises TransferNotFound for no id."""
    with ledger_errors(), ledger.redis.pipeline(transaction=False) as pipe:
        for each in transfer_ids:
            prefix = ledger.prefix(each)
            pipe.hgetall(f"{prefix}t:{each}")
            pipe.hvals(f"{prefix}v:{each}")
        replies = pipe.execute()
    return {
        each: (Record(each, pairs_of(fields)), sum(map(int, flying)))
        for each, fields, flying in zip(transfer_ids, replies[::2], replies[1::2], strict=True)
        if fields
    }


def live_among(ledger: LedgerReads, transfer_ids: Sequence[str]) -> set[str]:
    """Those that have not ended."""
    found: set[str] = set()
    for start in range(0, len(transfer_ids), _STATES):
        asked = transfer_ids[start : start + _STATES]
        with ledger_errors(), ledger.redis.pipeline(transaction=False) as pipe:
            for each in asked:
                pipe.hget(f"{ledger.prefix(each)}t:{each}", "state")
            states: list[Any] = pipe.execute()
        found |= {each for each, state in zip(asked, states, strict=True) if state and not State(text_of(state)).ended}
    return found


def count_live(ledger: LedgerReads) -> Snapshot:
    """What is queued and at work. At one moment in a fleet of some thousand live transfers; beyond, page by page."""
    live: dict[str, tuple[str, str, str]] = {}
    for prefix in ledger.prefixes:
        cursor = "0"
        while True:
            with ledger_errors():
                reply = [text_of(each) for each in move("snapshot")(ledger.redis, prefix, cursor, _STATES)]
            cursor, *flat = reply
            live |= {flat[at]: (flat[at + 1], flat[at + 2], flat[at + 3]) for at in range(0, len(flat), 4)}
            if cursor == "0":
                break
    active = [(direction, identity) for state, direction, identity in live.values() if state != State.QUEUED]
    return Snapshot(len(live) - len(active), len(active), sorted(active))
