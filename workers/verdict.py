"""What a failed step leads to: one decision, one line in the log, one description for the ledger."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from orchestrator.fleet import serves
from orchestrator.records import Lease, Record
from orchestrator.spec import RetryBudget
from providers.errors import ProviderUnavailable
from workers.bootstrap import Deps
from workers.failures import Described, describe, judge, outcome_of

log = structlog.get_logger(__name__)

_ELSEWHERE_MS = 500
"""How long work that this worker cannot do is left to others before anybody claims it again."""
_RECENT = 200


@dataclass(frozen=True, slots=True)
class Step:
    """What failed. ``give_up`` is how its move spells the end; ``queue_field`` says where others would do it."""

    event: str
    give_up: str
    queue_field: str
    attempts: int
    budget: RetryBudget


@dataclass(frozen=True, slots=True)
class Verdict:
    """The arguments of the move that records it."""

    outcome: str
    delay_ms: int
    reason: str
    error: Described

    @property
    def text(self) -> str:
        """For people who look at the task."""
        return f"{self.error['code']} ({self.outcome})"


def pass_verdict(deps: Deps, lease: Lease, exc: Exception, step: Step, *, restart: bool = False) -> Verdict:
    """Retry, wait, give up, leave it to others, or with ``restart`` prepare again."""
    part = int(lease.member) if lease.member.isdigit() else None
    error = describe(exc, worker=deps.process, part=part, attempt=lease.attempt)
    if restart:
        outcome, delay_ms, reason = "restart", 0, ""
    elif isinstance(exc, ProviderUnavailable) and _others_may(deps, lease.transfer_id, step.queue_field):
        outcome, delay_ms, reason = "handed_back", _ELSEWHERE_MS, ""
    else:
        decision = judge(
            exc,
            attempt=lease.attempt,
            attempts=step.attempts,
            elapsed_ms=lease.elapsed_ms,
            budget=step.budget,
            rng=deps.rng,
        )
        outcome, delay_ms, reason = outcome_of(decision, step.give_up)
    log.warning(
        step.event,
        transfer_id=lease.transfer_id,
        part=lease.member,
        attempt=lease.attempt,
        code=error["code"],
        message=error["message"],
        outcome=outcome,
        delay_ms=delay_ms,
        exc_info=exc if error["code"] == "internal" else None,
    )
    deps.metrics.judged(step.event.removesuffix("_failed"), outcome, code=error["code"], reason=reason)
    return Verdict(outcome, delay_ms, reason, error)


def budget_of(record: Record) -> RetryBudget:
    """The spec's budget, or the default where the spec is what cannot be read."""
    try:
        return record.spec.retry
    except Exception:
        return RetryBudget()


def _others_may(deps: Deps, transfer_id: str, queue_field: str) -> bool:
    """Whether a worker lives that has not failed for want of the same profile or SDK: one bad worker stops nobody."""
    queue = deps.ledger.record(transfer_id).fields.get(queue_field, "")
    tried = deps.ledger.history(transfer_id, limit=_RECENT)
    unable = {deps.process} | {each.get("process") for each in tried if each.get("code") == ProviderUnavailable.code}
    return any(worker.process not in unable and serves(worker, queue) for worker in deps.fleet.workers())
