"""Error, attempt and elapsed time -> retry, wait or give up. Pure: the random source is passed in."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestrator.spec import RetryBudget
from providers.errors import (
    CredentialExpired,
    DiskFull,
    ProviderError,
    ProviderUnavailable,
    SignerUnavailable,
    Throttled,
)

LONG_WAIT_SECONDS = 30.0
"""A throttle that asks for more than this makes the transfer wait instead of one of its parts."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after ``delay_ms``."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No attempt is lost: somebody must mend something. ``reason`` is shown; look again after ``delay_ms``."""

    reason: str
    delay_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The transfer fails with this error."""


Decision = Retry | Wait | GiveUp


def decide(
    error: ProviderError, *, attempt: int, attempts: int, elapsed_ms: int, budget: RetryBudget, rng: random.Random
) -> Decision:
    """``attempt`` is the one that failed, counted from 1; ``attempts`` is how many there may be."""
    wait_ms = int(budget.wait_seconds * 1000)
    if isinstance(error, DiskFull):
        return Wait("disk_full", wait_ms)
    if isinstance(error, CredentialExpired):
        return Wait("credential", wait_ms)
    if isinstance(error, SignerUnavailable):
        return Wait("signer", wait_ms)
    if isinstance(error, ProviderUnavailable):
        return Wait("provider", wait_ms)
    if not error.retryable or attempt >= attempts:
        return GiveUp()
    delay = backoff_ms(attempt, budget, rng)
    if error.retry_after_seconds is not None:
        # The server's word is a lower bound: jitter is added, never taken away, so that nobody comes early.
        asked = min(error.retry_after_seconds, budget.retry_after_cap_seconds) * 1000
        delay = max(delay, int(asked * (1 + 0.1 * rng.random())) + 1)
    if elapsed_ms + delay > budget.elapsed_seconds * 1000:
        return GiveUp()
    if isinstance(error, Throttled) and error.retry_after_seconds and delay > LONG_WAIT_SECONDS * 1000:
        return Wait("throttled", delay)
    return Retry(delay)


def backoff_ms(attempt: int, budget: RetryBudget, rng: random.Random) -> int:
    """base x 2^(attempt-1), capped, times 0.8 to 1.2: spread out, but never at once."""
    raw = min(budget.base_seconds * 2 ** min(attempt - 1, 30), budget.cap_seconds)
    return int(raw * 1000 * rng.uniform(0.8, 1.2))
