"""What a failed step means: one record for the ledger, one decision, without a secret in either."""

from __future__ import annotations

import random
import time
from typing import Any

from orchestrator.errors import HaulageError, LedgerCorrupt
from orchestrator.retry import Decision, Retry, Wait, decide
from orchestrator.spec import RetryBudget
from providers.errors import ProviderError
from providers.schemes import safe_text

Described = dict[str, Any]

_SCHEMA_WAIT_MS = 60_000


class Unexpected(ProviderError):
    """A fault nobody foresaw: retried like a network fault, so that a bug in one worker does not end a transfer."""

    code = "internal"
    retryable = True


def as_provider_error(error: Exception) -> ProviderError:
    """Any exception as one that can be decided on. The text of a foreign exception may hold a URL: it is not kept."""
    if isinstance(error, ProviderError):
        return error
    return Unexpected(f"unexpected {type(error).__name__}")


def describe(error: Exception, *, worker: str, part: int | None = None, attempt: int | None = None) -> Described:
    """The error as the ledger, events and ``show`` have it."""
    known = isinstance(error, (ProviderError, HaulageError))
    described: Described = {
        "code": getattr(error, "code", "internal") if known else "internal",
        "number": getattr(error, "number", -1) if known else -1,
        "message": safe_text(str(error)) if known else f"unexpected {type(error).__name__}",
        "process": worker,
        "at": int(time.time() * 1000),
    }
    status = getattr(error, "status", None)
    if status is not None:
        described["status"] = status
    if part is not None:
        described["part"] = part
    if attempt is not None:
        described["attempt"] = attempt
    return described


def judge(
    error: Exception, *, attempt: int, attempts: int, elapsed_ms: int, budget: RetryBudget, rng: random.Random
) -> Decision:
    """Retry, wait or give up. A record of an unknown schema is parked: an upgraded worker will understand it."""
    if isinstance(error, LedgerCorrupt):
        return Wait("schema", _SCHEMA_WAIT_MS)
    if isinstance(error, HaulageError) and not error.retryable:
        return decide(
            ProviderError(str(error)), attempt=attempt, attempts=attempts, elapsed_ms=0, budget=budget, rng=rng
        )
    return decide(
        as_provider_error(error), attempt=attempt, attempts=attempts, elapsed_ms=elapsed_ms, budget=budget, rng=rng
    )


def outcome_of(decision: Decision, give_up: str) -> tuple[str, int, str]:
    """(outcome, delay in ms, reason) for the ledger's moves; ``give_up`` is how that move spells it."""
    match decision:
        case Retry(delay_ms):
            return "retry", delay_ms, ""
        case Wait(reason, delay_ms):
            return "wait", delay_ms, reason
        case _:
            return give_up, 0, ""
