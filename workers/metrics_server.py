"""``/metrics`` of a machine's worker: what its processes counted, and what the ledger says of the whole fleet."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import structlog

from orchestrator.connection import connect, connect_broker, ledger_errors
from orchestrator.errors import LedgerUnavailable, RuntimeFailed
from orchestrator.fleet import Fleet
from orchestrator.ledger import Ledger
from orchestrator.queues import host_queue, queues_of
from orchestrator.settings import Settings
from workers.metrics import FLEET, FOLDER_VARIABLE, Spec

log = structlog.get_logger(__name__)

CACHE_SECONDS = 5.0
_PRIORITY = 1 << 42
"""A queue's score is priority times this, plus the time in ms (``enqueue`` in the moves of the ledger)."""
_EVENTS_AT_ONCE = 1000
_TORN_SECONDS = 2.0
_ENDS = frozenset({b"completed", b"failed", b"cancelled"})


class MetricsServer:
    """Serves ``http://host:port/metrics`` from a thread while the block runs. Its children count into ``folder``.

    Raises RuntimeFailed when the extra is missing or the port is taken.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._settings, self._host, self._port = settings, host, port
        self._server: Any = None
        self.folder = ""

    @property
    def port(self) -> int:
        """The port that was opened: 0 asks for any."""
        return int(self._server.server_port)

    def __enter__(self) -> Self:
        for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
            os.environ.pop(name, None)  # another application's folder, if any: this process counts in memory
        try:
            from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server
            from prometheus_client.multiprocess import MultiProcessCollector
        except ImportError:
            reason = "metrics need the package prometheus-client; run: pip install 'haulage[metrics]'"
            raise RuntimeFailed(reason) from None
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice as many series, and nobody reads those
        self.folder = tempfile.mkdtemp(prefix="haulage-metrics-")
        registry = CollectorRegistry()
        registry.register(Processes(MultiProcessCollector(None, path=self.folder)))  # type: ignore[no-untyped-call]
        registry.register(FleetCollector(self._settings))
        try:
            self._server, _thread = start_http_server(self._port, addr=self._host, registry=registry)
        except OSError as exc:
            self._remove()
            reason = f"metrics cannot be served on {self._host}:{self._port}: {exc.strerror or exc}"
            raise RuntimeFailed(reason) from None
        os.environ[FOLDER_VARIABLE] = self.folder
        log.info("metrics_served", host=self._host, port=self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.environ.pop(FOLDER_VARIABLE, None)
        self._server.shutdown()
        self._server.server_close()
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def metrics_served(settings: Settings, port: int | None = None) -> Iterator[MetricsServer | None]:
    """Serve metrics while the block runs, if ``port`` or the settings ask for it. Raises RuntimeFailed."""
    wanted = settings.metrics_port if port is None else port
    if wanted is None:
        yield None
        return
    with MetricsServer(settings, settings.metrics_host, wanted) as server:
        yield server


class Processes:
    """What the processes wrote into their files. One that starts just now has made its file, but not its head."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def collect(self) -> Iterator[Any]:
        """Looks again for a while at a file that is not whole. Raises what its reader raises after that."""
        until = time.monotonic() + _TORN_SECONDS
        while True:
            try:
                return iter(list(self._files.collect()))
            except (struct.error, ValueError, OSError, RuntimeError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)


class FleetCollector:
    """Reads the ledger when it is scraped, at most every ``CACHE_SECONDS``; what ended since comes from the events."""

    def __init__(self, settings: Settings) -> None:
        from prometheus_client import Counter, Histogram

        self._settings = settings
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._told: list[Any] = []
        self._positions: dict[str, str] = {}
        ended, lasted = FLEET["haulage_fleet_ended_total"], FLEET["haulage_fleet_transfer_seconds"]
        self._ended = Counter("haulage_fleet_ended_total", ended.help, ended.labels, registry=None)
        self._lasted = Histogram(
            "haulage_fleet_transfer_seconds", lasted.help, lasted.labels, registry=None, buckets=lasted.buckets
        )

    def collect(self) -> Iterator[Any]:
        """All that ``FLEET`` names; with the ledger away only ``haulage_fleet_up`` 0 and what was counted before."""
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_SECONDS:
                try:
                    self._told = self._read()
                except LedgerUnavailable as exc:
                    log.warning("fleet_not_read", error=str(exc))
                    self._told = [_gauge("haulage_fleet_up", {(): 0.0})]
                self._read_at = time.monotonic()
            yield from self._told
            yield from self._ended.collect()
            yield from self._lasted.collect()

    def _read(self) -> list[Any]:
        if self._ledger is None:
            self._ledger = Ledger(connect(self._settings, retry_seconds=1), self._settings)
        ledger = self._ledger
        with ledger_errors():
            seconds, micros = ledger.redis.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        self._count_ends(ledger, now_ms)
        transfers: dict[tuple[str, ...], float] = {}
        oldest: dict[tuple[str, ...], float] = {}
        sessions = 0.0
        for direction in self._settings.slots():
            queued, active, ages = 0, 0, [0.0]
            for prefix in ledger.prefixes:
                with ledger_errors():
                    queued += int(ledger.redis.zcard(f"{prefix}queue:{direction}"))
                    active += int(ledger.redis.scard(f"{prefix}slots:{direction}"))
                ages += _ages(ledger, f"{prefix}queue:{direction}", now_ms)
            transfers[direction, "queued"], transfers[direction, "active"] = float(queued), float(active)
            oldest[(direction,)] = max(ages)
        for prefix in ledger.prefixes:
            with ledger_errors():
                sessions += int(ledger.redis.hlen(f"{prefix}sessions"))
        return [
            _gauge("haulage_fleet_up", {(): 1.0}),
            _gauge("haulage_fleet_transfers", transfers),
            _gauge("haulage_fleet_oldest_queued_seconds", oldest),
            _gauge("haulage_fleet_open_sessions", {(): sessions}),
            *self._workers(ledger),
        ]

    def _workers(self, ledger: Ledger) -> list[Any]:
        count: dict[tuple[str, ...], float] = {}
        stuck: dict[tuple[str, ...], float] = {}
        mine = set(queues_of(self._settings.host, tuple(self._settings.pools)))
        queues = set(mine)
        for worker in Fleet(ledger).workers():
            count[(worker.host,)] = count.get((worker.host,), 0.0) + 1
            stuck[(worker.host,)] = stuck.get((worker.host,), 0.0) + worker.stuck
            queues.update(queues_of(worker.host, worker.pools))
        # Each machine tells of the whole fleet: zeros of all other hosts would be series by the square of the hosts.
        lengths = self._lengths(ledger, sorted(queues))
        shared = {queue for queue in queues if not queue.startswith(host_queue(""))}
        return [
            _gauge("haulage_fleet_workers", count),
            _gauge("haulage_fleet_stuck_threads", _telling(stuck, {self._settings.host})),
            _gauge("haulage_fleet_queue_messages", _telling(lengths, mine | shared)),
        ]

    def _lengths(self, ledger: Ledger, queues: list[str]) -> dict[tuple[str, ...], float]:
        apart = self._settings.broker_url is not None
        with ExitStack() as stack:
            redis = stack.enter_context(connect_broker(self._settings, retry_seconds=1)) if apart else ledger.redis
            with ledger_errors(), redis.pipeline(transaction=False) as pipe:
                for queue in queues:
                    pipe.llen(queue)
                return {(queue,): float(length) for queue, length in zip(queues, pipe.execute(), strict=True)}

    def _count_ends(self, ledger: Ledger, now_ms: int) -> None:
        """The first look only notes where the events end: what ended before is nobody's rate."""
        for prefix in ledger.prefixes:
            after = self._positions.setdefault(prefix, f"{now_ms}-0")
            full = True
            while full:
                with ledger_errors():
                    reply: Any = ledger.redis.xread({f"{prefix}events": after}, count=_EVENTS_AT_ONCE)
                rows = reply[0][1] if reply else []
                self._count(ledger, prefix, [fields for _, fields in rows if fields[b"kind"] in _ENDS])
                if rows:
                    after = self._positions[prefix] = rows[-1][0].decode()
                full = len(rows) == _EVENTS_AT_ONCE

    def _count(self, ledger: Ledger, prefix: str, ends: list[dict[bytes, bytes]]) -> None:
        with ledger_errors(), ledger.redis.pipeline(transaction=False) as pipe:
            for fields in ends:
                pipe.hmget(f"{prefix}t:{fields[b'id'].decode()}", "direction", "created")
            records: Any = pipe.execute() if ends else []
        for fields, (direction, created) in zip(ends, records, strict=True):
            if direction is None:
                continue  # its record has gone
            labels = (direction.decode(), fields[b"kind"].decode())
            self._ended.labels(*labels).inc()
            self._lasted.labels(*labels).observe((int(fields[b"at"]) - int(created)) / 1000)


def _ages(ledger: Ledger, queue: str, now_ms: int) -> list[float]:
    """Seconds that the first of each priority has waited: the longest wait may be at any of them."""
    ages: list[float] = []
    floor = "-inf"
    while True:
        with ledger_errors():
            found: Any = ledger.redis.zrangebyscore(queue, floor, "+inf", start=0, num=1, withscores=True)
        if not found:
            return ages
        priority, since_ms = divmod(int(found[0][1]), _PRIORITY)
        ages.append(max(0.0, (now_ms - since_ms) / 1000))
        floor = str((priority + 1) * _PRIORITY)


def _telling(values: dict[tuple[str, ...], float], always: set[str]) -> dict[tuple[str, ...], float]:
    """What is not zero, and ``always`` these."""
    return {labels: value for labels, value in values.items() if value or labels[0] in always}


def _gauge(name: str, values: dict[tuple[str, ...], float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    spec: Spec = FLEET[name]
    family = GaugeMetricFamily(name, spec.help, labels=spec.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
