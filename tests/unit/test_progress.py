"""Rates and the time left, from samples alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.progress import Meter, Progress


def at(received: int, total: int | None = 1_000) -> Progress:
    return Progress(min(received, 100), received, total, 1, 10)


def test_the_first_sample_has_no_rate() -> None:
    shown = Meter().sample(5.0, at(100))

    assert (shown.bytes_per_second, shown.smoothed_bytes_per_second, shown.eta_seconds) == (0.0, 0.0, None)


def test_the_smoothed_rate_takes_a_fifth_of_each_new_rate() -> None:
    meter = Meter()
    meter.sample(0.0, at(0))

    first, second = meter.sample(1.0, at(100)), meter.sample(2.0, at(300))

    assert (first.bytes_per_second, first.smoothed_bytes_per_second) == (100, 100)
    assert second.bytes_per_second == 200
    assert second.smoothed_bytes_per_second == pytest.approx(120)
    assert second.eta_seconds == pytest.approx(700 / 120)


def test_bytes_given_back_are_no_negative_rate() -> None:
    meter = Meter()
    meter.sample(0.0, at(500))

    assert meter.sample(1.0, at(200)).bytes_per_second == 0.0
    assert meter.sample(2.0, at(300)).bytes_per_second == 100.0


def test_two_samples_of_one_moment_divide_by_nothing() -> None:
    meter = Meter()
    meter.sample(1.0, at(0))

    assert meter.sample(1.0, at(100)).bytes_per_second == 0.0


def test_the_time_left_is_unknown_without_a_total_and_zero_at_the_end() -> None:
    meter = Meter()
    meter.sample(0.0, at(0))

    assert meter.sample(1.0, at(100, None)).eta_seconds is None
    assert meter.sample(2.0, at(1_000)).eta_seconds == 0.0


def test_a_rate_of_almost_nothing_gives_no_time_left() -> None:
    meter = Meter()
    meter.sample(0.0, at(0))

    assert meter.sample(10.0, at(1)).eta_seconds is None


@pytest.mark.parametrize(
    ("progress", "ratio"),
    [
        (Progress(0, 0, None, 0, 0), 0.0),
        (Progress(50, 80, 200, 1, 4), 0.25),
        (Progress(200, 200, 200, 4, 4), 1.0),
        (Progress(0, 0, 0, 0, 1), 0.0),
        (Progress(0, 0, 0, 1, 1), 1.0),
    ],
)
def test_the_ratio_counts_durable_bytes_only(progress: Progress, ratio: float) -> None:
    assert progress.ratio == ratio


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1 << 50)), max_size=20), st.none() | st.integers(0, 1 << 50)
)
def test_no_sequence_of_samples_gives_a_negative_number(samples: list[tuple[float, int]], total: int | None) -> None:
    meter = Meter()

    for now, received in samples:
        shown = meter.sample(now, at(received, total))
        assert shown.bytes_per_second >= 0
        assert shown.smoothed_bytes_per_second >= 0
        assert shown.eta_seconds is None or shown.eta_seconds >= 0
        assert 0.0 <= shown.ratio <= 1.0
