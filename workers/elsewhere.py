"""When one worker lacks the profile or the SDK: leave the work to those who have it. One bad worker stops nobody."""

from __future__ import annotations

from orchestrator.fleet import serves
from providers.errors import ProviderUnavailable
from workers.bootstrap import Deps

ELSEWHERE_MS = 500
"""How long work that this worker cannot do is left to others before anybody claims it again."""
_RECENT = 200


def others_may(deps: Deps, transfer_id: str, queue_field: str) -> bool:
    """Whether a worker lives that has not failed like this. ``queue_field``: ``q`` for parts, ``qc`` for control."""
    queue = deps.ledger.record(transfer_id).fields.get(queue_field, "")
    tried = deps.ledger.history(transfer_id, limit=_RECENT)
    unable = {deps.process} | {each.get("process") for each in tried if each.get("code") == ProviderUnavailable.code}
    return any(worker.process not in unable and serves(worker, queue) for worker in deps.fleet.workers())
