"""Prints what was measured as Markdown, ready for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Sample
from benchmarks.rounds import OURS, Figure, ratio

MIB = 1 << 20


def out(line: str = "") -> None:
    print(line, flush=True)


def heading(title: str, *lines: str) -> None:
    out(f"\n## {title}\n")
    for line in lines:
        out(line)
    if lines:
        out()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    out("| " + " | ".join(columns) + " |")
    out("|" + "---|" * len(columns))
    for row in rows:
        out("| " + " | ".join(row) + " |")


def contest(samples: Mapping[str, list[Sample]]) -> None:
    """One row per contestant; ratios are ours to theirs."""
    ours = samples[OURS]
    rows = []
    for name, runs in samples.items():
        cpu = Figure.of([each.cpu_seconds for each in runs]).text()
        redis = Figure.of([each.redis_cpu_seconds for each in runs])
        cpu += f" + Redis {redis.median:.2f}" if redis.high > 0 else ""
        compared = ["", ""]
        if not name.startswith(OURS):
            compared = [
                ratio(ours, runs, lambda each: each.cpu_seconds).text(),
                ratio(ours, runs, lambda each: each.wall_seconds).text(),
            ]
        wall = Figure.of([each.wall_seconds for each in runs]).text()
        rows.append([name, cpu, compared[0], wall, compared[1], f"{max(each.peak_bytes for each in runs) / MIB:.0f}"])
    table(["", "CPU s", "ours / theirs", "wall s", "ours / theirs", "peak MiB"], rows)


def machine() -> str:
    """What it ran on, and how busy others kept it."""
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}, "
        f"{os.cpu_count()} cores ({_cpu_model()}); {load()}"
    )


def load() -> str:
    return "load average " + " ".join(f"{each:.1f}" for each in os.getloadavg())


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
