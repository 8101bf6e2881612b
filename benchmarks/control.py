"""What the control plane costs per part of 1 KiB, file to file; against a message that does nothing."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import redis

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.house import House
from benchmarks.measure import Sample
from benchmarks.noop import NoopWorker
from benchmarks.rounds import OURS, Figure, ratio, run_rounds
from haulage import State

PART_BYTES, PARTS_IN_FLIGHT = 1024, 8
STRICT, QUANTUM, NOOP = f"{OURS}, quantum 0", f"{OURS}, quantum 0.5 s", "Celery no-op"


def run(bench: Bench) -> None:
    with (
        House(bench.folder / "strict", quantum_seconds=0) as strict,
        House(bench.folder / "quantum", quantum_seconds=0.5, quantum_above_parts=0) as quantum,
        NoopWorker(strict, bench.folder) as noop,
    ):
        report.heading("Control plane, per part", f"{PARTS_IN_FLIGHT} in flight, one worker process", report.load())
        rows = []
        for parts in bench.parts:
            rows += _rows(bench, parts, {STRICT: strict, QUANTUM: quantum}, noop)
        report.table(
            [
                *("parts", "", "wall ms", "CPU ms", "Redis CPU ms", "no-ops (CPU)", "no-ops (wall)"),
                *("scripts", "Redis commands", "last receipt to completed, ms"),
            ],
            rows,
        )
        report.out()
        for line in _memory(bench, quantum, max(bench.parts)):
            report.out(line)


def _rows(bench: Bench, parts: int, houses: dict[str, House], noop: NoopWorker) -> list[list[str]]:
    source = bench.folder / f"{parts}.bin"
    source.write_bytes(b"\x5a" * PART_BYTES * parts)
    calls: dict[str, list[tuple[float, float, float]]] = defaultdict(list)

    def ours(name: str, house: House) -> Callable[[], Sample]:
        def once() -> Sample:
            sample, figures = _one(house, source, bench.target, parts)
            calls[name].append(figures)
            return sample

        return once

    contestants = {name: ours(name, house) for name, house in houses.items()}
    contestants[NOOP] = lambda: _message(noop, parts, calls[NOOP])
    samples = run_rounds(contestants, bench.rounds)
    return [_row(parts, name, runs, samples[NOOP], calls.get(name, [])[1:]) for name, runs in samples.items()]


def _row(
    parts: int, name: str, runs: list[Sample], noop: list[Sample], calls: list[tuple[float, float, float]]
) -> list[str]:
    spent = [(each.wall_seconds, each.cpu_seconds, each.redis_cpu_seconds) for each in runs]
    per_part = [Figure.of([1000 * value / parts for value in values]) for values in zip(*spent, strict=True)]
    row = [f"{parts:,}", name, *(figure.text() for figure in per_part)]
    scripts, commands, waits = zip(*calls, strict=True)
    is_noop = runs is noop
    row.append("" if is_noop else ratio(runs, noop, lambda each: each.cpu_seconds).text())
    row.append("" if is_noop else ratio(runs, noop, lambda each: each.wall_seconds).text())
    row += [f"{median(column) / parts:.2f}" for column in (scripts, commands)]
    return [*row, "" if is_noop else Figure.of(list(waits)).text(0)]


def _one(house: House, source: Path, target: Path, parts: int) -> tuple[Sample, tuple[float, float, float]]:
    """The sample, and scripts called, commands run, ms from the last receipt to ``completed``."""
    with house.redis_client() as client:
        before = _counts(client)
        options = {"part_size": PART_BYTES, "parts_in_flight": PARTS_IN_FLIGHT}
        sample, transfer = house.transfer(str(source), str(target), **options)
        after = _counts(client)
    assert transfer.progress.parts_done == parts
    assert transfer.ended_at is not None
    target.unlink()
    last = _last_receipt(house.log_file, transfer.transfer_id)
    scripts, commands = (now - then for now, then in zip(after, before, strict=True))
    return sample, (scripts, commands, 1000 * (transfer.ended_at - last))


def _message(noop: NoopWorker, parts: int, calls: list[tuple[float, float, float]]) -> Sample:
    with noop.house.redis_client() as client:
        before = _counts(client)
        sample = noop.drain(parts)
        after = _counts(client)
    scripts, commands = (now - then for now, then in zip(after, before, strict=True))
    calls.append((scripts, commands, 0.0))
    return sample


def _counts(client: redis.Redis) -> tuple[int, int]:
    stats: Any = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}
    return calls.get("evalsha", 0) + calls.get("eval", 0), sum(calls.values())


def _last_receipt(log_file: Path, transfer_id: str) -> float:
    """Unix time of the last ``part_stored`` of this transfer, from the worker's log."""
    last = 0.0
    with log_file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if '"part_stored"' in line and transfer_id in line:
                entry = json.loads(line)
                last = max(last, datetime.fromisoformat(entry["timestamp"]).timestamp())
    return last


def _memory(bench: Bench, house: House, parts: int) -> list[str]:
    """Bytes of Redis per part, with most receipts written: the transfer is paused on its way."""
    source = bench.folder / f"{parts}.bin"
    client = house.fleet.client
    with house.redis_client() as server:
        before = set(server.scan_iter(count=1000))
        options = {"part_size": PART_BYTES, "parts_in_flight": PARTS_IN_FLIGHT}
        transfer_id = client.submit(str(source), str(bench.target), **options)
        while client.get(transfer_id).progress.ratio < 0.8:
            time.sleep(0.02)
        client.pause(transfer_id)
        while house.fleet.ledger.in_flight(transfer_id):
            time.sleep(0.02)
        transfer = client.get(transfer_id)
        if transfer.state is not State.PAUSED:
            return [f"Redis memory: not measured, the transfer was {transfer.state} before it could be paused"]
        sizes: dict[str, int] = defaultdict(int)
        for key in server.scan_iter(count=1000):
            if key not in before:
                used: Any = server.memory_usage(key, samples=0)
                sizes[_kind(key.decode(), transfer_id)] += used or 0
        client.cancel(transfer_id)
    done = transfer.progress.parts_done
    kinds = ", ".join(f"{kind} {used / done:.1f}" for kind, used in sorted(sizes.items(), key=lambda each: -each[1]))
    return [
        f"Redis memory, {done:,} of {parts:,} parts done: {sum(sizes.values()) / done:.0f} bytes per part ({kinds})"
    ]


def _kind(key: str, transfer_id: str) -> str:
    head = key.partition(transfer_id)[0] if transfer_id in key else ""
    letter = head.rstrip(":").rpartition(":")[2]
    names = {"r": "receipts", "t": "record", "k": "tickets", "e": "events", "o": "owners", "b": "waiting parts"}
    return names.get(letter, letter or ("chord" if key.startswith("celery-taskset") else "other"))
