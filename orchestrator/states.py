"""States of a transfer and the moves between them. The Lua moves obey this table; a test compares the two."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a transfer stands. ``waiting`` is ``running`` with a reason why no byte moves just now."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Nothing leaves a final state."""
        return self in (State.COMPLETED, State.CANCELLED)

    @property
    def ended(self) -> bool:
        """No worker has anything to do; ``failed`` may be tried again by ``retry``."""
        return self.final or self is State.FAILED


MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PREPARING, State.PAUSED, State.CANCELLED, State.FAILED}),
    State.PREPARING: frozenset(
        {State.RUNNING, State.WAITING, State.QUEUED, State.COMPLETED, State.FAILED, State.PAUSED, State.CANCELLED}
    ),
    State.RUNNING: frozenset(
        {State.WAITING, State.COMPLETING, State.PREPARING, State.FAILED, State.PAUSED, State.CANCELLED}
    ),
    State.WAITING: frozenset(
        {State.RUNNING, State.PREPARING, State.QUEUED, State.COMPLETING, State.FAILED, State.PAUSED, State.CANCELLED}
    ),
    State.COMPLETING: frozenset(
        {State.COMPLETED, State.RUNNING, State.WAITING, State.PREPARING, State.FAILED, State.PAUSED, State.CANCELLED}
    ),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    State.FAILED: frozenset({State.QUEUED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""Allowed moves. ``completing -> paused | cancelled`` only when a commit failed with that wish pending."""


def allowed(before: State, after: State) -> bool:
    """Whether the table has this move."""
    return after in MOVES[before]
