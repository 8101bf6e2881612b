"""Which fault is tried again, when, and when it is given up."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.retry import Decision, GiveUp, Retry, Wait, backoff_ms, decide
from orchestrator.spec import RetryBudget
from providers import errors
from providers.errors import ProviderError, Throttled, TransportError

BUDGET = RetryBudget()
seeds = st.integers(0, 2**32)


def judge(
    error: ProviderError,
    *,
    attempt: int = 1,
    attempts: int = 6,
    elapsed_ms: int = 0,
    budget: RetryBudget = BUDGET,
    seed: int = 1,
) -> Decision:
    rng = random.Random(seed)
    return decide(error, attempt=attempt, attempts=attempts, elapsed_ms=elapsed_ms, budget=budget, rng=rng)


@given(st.integers(1, 1_000_000), seeds)
def test_each_wait_is_twice_the_last_up_to_the_cap_and_spread_by_a_fifth(attempt: int, seed: int) -> None:
    plain = min(200 * 2 ** min(attempt - 1, 20), 30_000)

    assert 0.8 * plain - 1 <= backoff_ms(attempt, BUDGET, random.Random(seed)) <= 1.2 * plain


def test_waits_are_spread_and_not_all_the_same() -> None:
    assert len({backoff_ms(3, BUDGET, random.Random(seed)) for seed in range(50)}) > 20


@given(st.floats(0, 300), st.integers(1, 5), seeds)
def test_nobody_comes_back_before_the_server_allows(asked: float, attempt: int, seed: int) -> None:
    decision = judge(Throttled("slow down", retry_after_seconds=asked), attempt=attempt, seed=seed)

    assert isinstance(decision, (Retry, Wait))
    assert decision.delay_ms >= asked * 1000
    assert decision.delay_ms <= max(asked * 1100 + 1, 1.2 * 200 * 2 ** (attempt - 1))


def test_a_server_that_asks_for_days_is_asked_again_after_the_cap() -> None:
    decision = judge(Throttled("come back on Monday", retry_after_seconds=200_000))

    assert isinstance(decision, Wait)
    assert 300_000 < decision.delay_ms <= 330_001


def test_a_long_throttle_frees_the_slot_and_a_short_one_does_not() -> None:
    assert isinstance(judge(Throttled("", retry_after_seconds=5)), Retry)
    long = judge(Throttled("", retry_after_seconds=31))
    assert isinstance(long, Wait)
    assert long.reason == "throttled"


@pytest.mark.parametrize(("attempts", "tries"), [(1, 1), (4, 4)])
def test_attempts_count_from_one_and_the_first_try_is_one(attempts: int, tries: int) -> None:
    decisions = [judge(TransportError("reset"), attempt=each, attempts=attempts) for each in range(1, tries + 1)]

    assert [isinstance(each, Retry) for each in decisions] == [True] * (tries - 1) + [False]


def test_no_wait_may_reach_past_the_elapsed_budget() -> None:
    budget = RetryBudget(elapsed_seconds=10)

    assert isinstance(judge(TransportError("reset"), elapsed_ms=9_000, budget=budget), Retry)
    assert isinstance(judge(TransportError("reset"), elapsed_ms=9_900, budget=budget), GiveUp)
    assert isinstance(judge(Throttled("", retry_after_seconds=20), budget=budget), GiveUp)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.DiskFull("no space"), "disk_full"),
        (errors.CredentialExpired("expired"), "credential"),
        (errors.SignerUnavailable("no answer"), "signer"),
        (errors.ProviderUnavailable("no boto3"), "provider"),
    ],
)
def test_what_somebody_must_mend_waits_however_often_and_long(error: ProviderError, reason: str) -> None:
    budget = RetryBudget(wait_seconds=7)

    decision = judge(error, attempt=1_000, attempts=1, elapsed_ms=10**12, budget=budget)

    assert decision == Wait(reason, 7_000)


FINAL = [
    errors.ResponseStatusError("418"),
    errors.Forbidden("403"),
    errors.NotFound("404"),
    errors.ResponseParseError("bad XML"),
    errors.InvalidRange("wrong start"),
    errors.SourceChanged("new etag"),
    errors.LengthUnknown("no length"),
    errors.ChecksumMismatch("wrong"),
    errors.DestinationExists("there"),
    errors.SourceMissing("gone"),
    errors.IoFailed("EIO"),
    errors.InvalidValue("field", 1, "2"),
    errors.UploadNotFound("gone"),
    errors.InvalidPart("part 3"),
]
AGAIN = [
    errors.TransportError("reset"),
    errors.Stalled("no bytes"),
    errors.Throttled("429"),
    errors.ServerFault("500"),
    errors.PartCorrupted("wrong crc"),
    errors.LocalBusy("EMFILE"),
]


@pytest.mark.parametrize("error", FINAL, ids=lambda error: error.code)
def test_what_will_not_change_is_given_up_at_once(error: ProviderError) -> None:
    assert judge(error) == GiveUp()


@pytest.mark.parametrize("error", AGAIN, ids=lambda error: error.code)
def test_what_may_pass_is_tried_again(error: ProviderError) -> None:
    assert isinstance(judge(error), Retry)
