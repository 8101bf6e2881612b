"""Which transfers hold the engine, and what becomes of the others when it leaves.

``hl:engine:keep`` in the engine's Redis is the set of transfer ids that somebody asked to have finished with nobody
attached. It is in Redis so that it survives the engine. Ids of transfers that ended are dropped when it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.connection import connect, ledger_errors
from orchestrator.ledger import Ledger
from orchestrator.pages import look, rows
from orchestrator.settings import Settings
from orchestrator.states import State
from orchestrator.steering import batches, steer_many

KEEP = "hl:engine:keep"
LIVE = (State.QUEUED, State.PREPARING, State.RUNNING, State.WAITING, State.COMPLETING)
"""States in which something may move without anybody's doing. A paused transfer holds nothing."""
MOVING = (State.PREPARING, State.RUNNING, State.COMPLETING)
"""States in which something moves now; the rest of the live ones wait."""


def keep(settings: Settings, transfer_id: str) -> None:
    """The engine stays until this transfer has ended, is paused, or is not known any more. Raises TransferNotFound."""
    with _ledger(settings) as ledger:
        ledger.prefix(transfer_id)
        with ledger_errors():
            ledger.redis.sadd(KEEP, transfer_id)


def is_keeping(settings: Settings) -> bool:
    """Whether a kept transfer is live; forgets those that ended."""
    found = False
    with _ledger(settings) as ledger:
        for batch in batches(_kept(ledger)):
            seen = look(ledger, batch)
            found = found or any(record.state in LIVE for record, _ in seen.values())
            if over := [each for each in batch if each not in seen or seen[each][0].state.ended]:
                with ledger_errors():
                    ledger.redis.srem(KEEP, *over)
    return found


def any_in(settings: Settings, states: tuple[State, ...]) -> bool:
    """Whether there is a transfer in one of these states."""
    with _ledger(settings) as ledger:
        return next(rows(ledger, {"state": states}, page_size=1), None) is not None


def pause_others(settings: Settings) -> int:
    """Pause the live transfers that nobody keeps; answers how many."""
    with _ledger(settings) as ledger:
        keeping = _kept(ledger)
        live = (record.transfer_id for record, _ in rows(ledger, {"state": LIVE}))
        return len(steer_many(ledger, (each for each in live if each not in keeping), "pause").changed)


@contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
    with connect(settings) as client:
        yield Ledger(client, settings)


def _kept(ledger: Ledger) -> set[str]:
    with ledger_errors():
        members: Any = ledger.redis.smembers(KEEP)
    return {each.decode() for each in members}
