"""Which transfers hold the engine, and what becomes of the others when it leaves.

``hl:engine:keep`` in the engine's Redis is the set of transfer ids that somebody asked to have finished with nobody
attached. It is in Redis so that it survives the engine. Ids of transfers that ended are dropped when it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis

from orchestrator.client import TransferClient
from orchestrator.connection import connect, ledger_errors
from orchestrator.errors import HaulageError, TransferNotFound
from orchestrator.settings import Settings
from orchestrator.states import State

KEEP = "hl:engine:keep"
LIVE = (State.QUEUED, State.PREPARING, State.RUNNING, State.WAITING, State.COMPLETING)
"""States in which something may move without anybody's doing. A paused transfer holds nothing."""
_ALL = 1_000_000


@contextmanager
def _redis(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings) as client, ledger_errors():
        yield client


def keep(settings: Settings, transfer_id: str) -> None:
    """The engine stays until this transfer has ended, is paused, or is not known any more."""
    with _redis(settings) as client:
        client.sadd(KEEP, transfer_id)


def kept(settings: Settings) -> set[str]:
    """Every id that is kept, live or not."""
    with _redis(settings) as client:
        members: Any = client.smembers(KEEP)
    return {each.decode() for each in members}


def kept_live(settings: Settings) -> set[str]:
    """The kept transfers that are live; forgets those that ended."""
    live, over = set(), []
    with TransferClient(settings) as transfers:
        for each in kept(settings):
            try:
                state = transfers.get(each).state
            except TransferNotFound:
                state = State.CANCELLED
            if state in LIVE:
                live.add(each)
            elif state.ended:
                over.append(each)
    if over:
        with _redis(settings) as client:
            client.srem(KEEP, *over)
    return live


def any_live(settings: Settings) -> bool:
    """Whether there is a transfer that may move."""
    with TransferClient(settings) as transfers:
        return bool(transfers.list(state=LIVE, limit=1))


def pause_others(settings: Settings) -> int:
    """Pause the live transfers that nobody keeps; answers how many."""
    count, keeping = 0, kept(settings)
    with TransferClient(settings) as transfers:
        live = {each.transfer_id for each in transfers.list(state=LIVE, limit=_ALL)}
        for each in live - keeping:
            with suppress(HaulageError):  # it ended meanwhile
                transfers.pause(each)
                count += 1
    return count
