"""Runs contestants in shuffled rounds, and compares them within each round: a noisy minute hits all alike."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.measure import Sample

OURS = "haulage"


@dataclass(frozen=True, slots=True)
class Figure:
    """Median and range over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def run_rounds(contestants: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """One round that does not count, to warm everything up; then ``rounds`` that do."""
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        order = list(contestants)
        random.shuffle(order)
        for name in order:
            sample = contestants[name]()
            if number:
                samples[name].append(sample)
    return samples


def ratio(ours: list[Sample], theirs: list[Sample], value: Callable[[Sample], float]) -> Figure:
    """Ours to theirs, round by round: below 1 is better."""
    return Figure.of([value(a) / value(b) for a, b in zip(ours, theirs, strict=True) if value(b) > 0])
