"""What worker processes count for Prometheus. Nothing is counted, or imported, unless a port was asked for.

Each process writes into a file of its role below the supervisor's folder; ``workers.metrics_server`` adds them up. A
role's next process goes on with the same file, so a counter never falls and no dead process leaves a file behind.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog

if TYPE_CHECKING:  # endpoints import what imports this module
    from workers.endpoints import Endpoints

log = structlog.get_logger(__name__)

FOLDER_VARIABLE, NAME_VARIABLE = "HAULAGE_PROCESS_METRICS", "HAULAGE_PROCESS_NAME"
"""Set by the supervisor for its children: where to count, and as whom."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric. Labels have few values: never an id, a path, or a host out of somebody's URL."""

    kind: Literal["counter", "histogram", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_WORK_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)

PROCESS: dict[str, Spec] = {
    "haulage_bytes_total": Spec(
        "counter", "Bytes of stored parts.", ("direction", "source", "destination")
    ),  # by scheme, such as https to s3
    "haulage_parts_total": Spec(
        "counter",
        "Parts by what became of the claim: stored, retry, wait, restart, fail, handed_back, lost.",
        ("direction", "outcome"),
    ),
    "haulage_retries_total": Spec("counter", "Steps that failed and are tried again, by error code.", ("step", "code")),
    "haulage_failures_total": Spec("counter", "Steps that failed for good, by error code.", ("step", "code")),
    "haulage_waits_total": Spec("counter", "Steps that made a transfer wait, by reason.", ("step", "reason")),
    "haulage_leases_lost_total": Spec("counter", "Work given up because its lease was gone.", ("step",)),
    "haulage_part_seconds": Spec(
        "histogram", "From the claim of a part to its receipt.", ("direction",), _WORK_SECONDS
    ),
    "haulage_prepare_seconds": Spec("histogram", "Preparations that succeeded.", (), _WORK_SECONDS),
    "haulage_commit_seconds": Spec("histogram", "Commits that succeeded.", (), _WORK_SECONDS),
}
"""Counted by the processes of one machine: add up over machines."""

FLEET: dict[str, Spec] = {
    "haulage_fleet_up": Spec("gauge", "1 if the ledger answered; without it the other fleet metrics are missing."),
    "haulage_fleet_transfers": Spec("gauge", "Transfers that are queued or active.", ("direction", "state")),
    "haulage_fleet_oldest_queued_seconds": Spec("gauge", "Age of the longest-queued transfer.", ("direction",)),
    "haulage_fleet_queue_messages": Spec(
        "gauge", "Messages that wait for a worker; of other hosts' queues those with any.", ("queue",)
    ),
    "haulage_fleet_workers": Spec("gauge", "Live worker processes.", ("host",)),
    "haulage_fleet_stuck_threads": Spec(
        "gauge", "Threads that have not moved for so long; of other hosts those with any.", ("host",)
    ),
    "haulage_fleet_open_sessions": Spec("gauge", "Multipart uploads and temporary files that are open."),
    "haulage_fleet_ended_total": Spec(
        "counter", "Transfers that ended since the first scrape.", ("direction", "state")
    ),
    "haulage_fleet_transfer_seconds": Spec(
        "histogram",
        "From submit to end.",
        ("direction", "state"),
        (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600),
    ),
}
"""Read from the ledger, so the same on every machine: take the maximum over machines, not the sum."""


class Metrics:
    """Counts nothing: nobody asked."""

    def part_stored(self, ends: Endpoints, size_bytes: int, seconds: float) -> None:
        """A part has its receipt."""

    def part_left(self, direction: str, outcome: str) -> None:
        """A claimed part was not stored: retry | wait | restart | fail | handed_back | lost."""

    def prepared(self, seconds: float) -> None:
        """A preparation succeeded."""

    def committed(self, seconds: float) -> None:
        """A commit succeeded."""

    def lease_lost(self, step: str) -> None:
        """A preparation or commit was given up: its lease was gone."""

    def judged(self, step: str, outcome: str, *, code: str, reason: str) -> None:
        """A failed step was judged; ``step`` is part, prepare or commit."""


class Counters(Metrics):
    """Counts into a file of this process. A call costs a few microseconds and no system call."""

    def __init__(self, folder: str, name: str) -> None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from prometheus_client import CollectorRegistry, Counter, Histogram, values

        # By role and not by process id: the role's processes follow one another, and never run at once.
        values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self._metrics: dict[str, Any] = {}
        for key, spec in PROCESS.items():
            options = {"buckets": spec.buckets} if spec.buckets else {}
            kind: Any = Counter if spec.kind == "counter" else Histogram
            self._metrics[key] = kind(key, spec.help, spec.labels, registry=registry, **options)
        self._routes: dict[tuple[str, str, str], tuple[Any, Any, Any]] = {}

    def part_stored(self, ends: Endpoints, size_bytes: int, seconds: float) -> None:
        source, destination = ends.source_location.scheme.name, ends.destination_location.scheme.name
        route = (ends.record.fields.get("direction", ""), source, destination)
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = (
                self._metrics["haulage_bytes_total"].labels(*route),
                self._metrics["haulage_parts_total"].labels(route[0], "stored"),
                self._metrics["haulage_part_seconds"].labels(route[0]),
            )
        found[0].inc(size_bytes)
        found[1].inc()
        found[2].observe(seconds)

    def part_left(self, direction: str, outcome: str) -> None:
        self._metrics["haulage_parts_total"].labels(direction, outcome).inc()
        if outcome == "lost":
            self.lease_lost("part")

    def prepared(self, seconds: float) -> None:
        self._metrics["haulage_prepare_seconds"].observe(seconds)

    def committed(self, seconds: float) -> None:
        self._metrics["haulage_commit_seconds"].observe(seconds)

    def lease_lost(self, step: str) -> None:
        self._metrics["haulage_leases_lost_total"].labels(step).inc()

    def judged(self, step: str, outcome: str, *, code: str, reason: str) -> None:
        if outcome == "wait":
            self._metrics["haulage_waits_total"].labels(step, reason).inc()
        elif outcome in ("fail", "failed"):
            self._metrics["haulage_failures_total"].labels(step, code).inc()
        else:
            self._metrics["haulage_retries_total"].labels(step, code).inc()


def metrics_of_process() -> Metrics:
    """Counters where the supervisor wants them. Work never stops for want of them."""
    folder, name = os.environ.get(FOLDER_VARIABLE), os.environ.get(NAME_VARIABLE)
    if not folder or not name:
        return Metrics()
    try:
        return Counters(folder, name)
    except Exception as exc:
        log.warning("metrics_not_counted", error=type(exc).__name__)
        return Metrics()
