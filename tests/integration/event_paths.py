"""Whether what was told of a transfer is a path in the graph of its states (RC-31)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from orchestrator.states import MOVES, State

TELLS = {
    "queued": State.QUEUED,
    "probed": State.RUNNING,
    "started": State.RUNNING,
    "waiting": State.WAITING,
    "paused": State.PAUSED,
    "resumed": State.QUEUED,
    "completed": State.COMPLETED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}
"""The state that an event announces. ``progress`` and ``retrying`` announce none."""

_SILENT = frozenset({State.PREPARING, State.RUNNING, State.COMPLETING})
"""States that may be passed without a word."""

_BEFORE = {"queued": {"failed", "waiting"}, "resumed": {"paused"}, "started": {"probed", "waiting"}}
"""What alone may come before these, once a transfer has begun."""


def check_path(kinds: Sequence[str], state: State) -> None:
    """Fail unless the events could have happened in this order, and led to ``state``."""
    told = [each for each in kinds if each in TELLS]
    assert told[:1] in (["queued"], ["paused"]), f"begins with {kinds[:1]}"
    for kind, following in pairwise(told):
        assert following not in _BEFORE or kind in _BEFORE[following], f"{following} after {kind} in {kinds}"
        assert kind != "probed" or following == "started", f"{following} after probed in {kinds}"
        assert _leads(TELLS[kind], TELLS[following]), f"no way from {kind} to {following} in {kinds}"
    assert state == TELLS[told[-1]] or _leads(TELLS[told[-1]], state), f"{told[-1]} was told, and it is {state}"
    ends = [at for at, kind in enumerate(kinds) if kind in ("completed", "cancelled")]
    assert ends in ([], [len(kinds) - 1]), f"something after the end in {kinds}"
    for kind, following in pairwise(kinds):
        assert kind != "failed" or following in ("queued", "cancelled"), f"{following} after failed in {kinds}"


def _leads(before: State, after: State) -> bool:
    """Whether there is a way whose states between the two are silent ones."""
    seen: set[State] = set()
    edge = {before}
    while edge:
        reached = {to for state in edge for to in MOVES[state]} - seen
        if after in reached:
            return True
        seen |= reached
        edge = reached & _SILENT
    return before == after == State.RUNNING
