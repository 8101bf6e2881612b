"""Durable and received bytes over time -> rate, smoothed rate, ETA. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

EMA_WEIGHT = 0.2
"""Weight of the newest sample in the smoothed rate (BN-10)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``durable_bytes`` have receipts: a resume starts there. ``received_bytes`` adds what is in flight."""

    durable_bytes: int
    received_bytes: int
    total_bytes: int | None
    parts_done: int
    part_count: int
    bytes_per_second: float = 0.0
    smoothed_bytes_per_second: float = 0.0
    eta_seconds: float | None = None

    @property
    def ratio(self) -> float:
        """Durable share, 0.0 to 1.0; 0.0 while the total is unknown, 1.0 for an empty object that is done."""
        if not self.total_bytes:
            return 1.0 if self.total_bytes == 0 and self.part_count and self.parts_done == self.part_count else 0.0
        return min(1.0, self.durable_bytes / self.total_bytes)


@dataclass(slots=True)
class Meter:
    """Turns samples into rates. A sample that goes back (a part was given back) resets the instantaneous rate only.

    Samples closer than ``window_seconds`` share a rate: workers report the bytes of a part about once a second, so
    a shorter look would see nothing, nothing, and then too much.
    """

    window_seconds: float = 0.0
    _at: float | None = None
    _bytes: int = 0
    _rate: float = 0.0
    _smoothed: float | None = field(default=None)

    def sample(self, now_seconds: float, progress: Progress) -> Progress:
        """The same progress with rates filled in. ``now_seconds`` is any monotonic clock."""
        if self._at is None:
            self._at, self._bytes = now_seconds, progress.received_bytes
        elif (passed := now_seconds - self._at) > 0 and passed >= self.window_seconds:
            self._rate = rate = max(0, progress.received_bytes - self._bytes) / passed
            self._smoothed = rate if self._smoothed is None else EMA_WEIGHT * rate + (1 - EMA_WEIGHT) * self._smoothed
            self._at, self._bytes = now_seconds, progress.received_bytes
        smoothed = self._smoothed or 0.0
        left = None if progress.total_bytes is None else max(0, progress.total_bytes - progress.received_bytes)
        eta = 0.0 if left == 0 else (left / smoothed if left is not None and smoothed >= 1 else None)
        return Progress(
            progress.durable_bytes,
            progress.received_bytes,
            progress.total_bytes,
            progress.parts_done,
            progress.part_count,
            self._rate,
            smoothed,
            eta,
        )


def finished(progress: Progress, size_bytes: int | None = None) -> Progress:
    """The last frame of a completed transfer: all is durable, also of what was skipped or had no known size."""
    total = progress.total_bytes if progress.total_bytes is not None else (size_bytes or progress.durable_bytes)
    parts = max(progress.part_count, progress.parts_done, 1)
    return Progress(total, total, total, parts, parts, 0.0, progress.smoothed_bytes_per_second, 0.0)
