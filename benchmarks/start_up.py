"""What a start costs: apart from everything else, because a worker lives long and a tool does not."""

from __future__ import annotations

import sys
from statistics import median

from benchmarks import peers, report
from benchmarks.bench import Bench
from benchmarks.house import House
from benchmarks.measure import Sample, run_command


def run(bench: Bench) -> None:
    bare = _median([run_command([sys.executable, "-c", "pass"]) for _ in range(bench.rounds)])
    client = _median([run_command([sys.executable, "-c", "import haulage"]) for _ in range(bench.rounds)])
    houses = []
    for number in range(bench.rounds):
        with House(bench.folder / str(number)) as house:
            houses.append(house.start_sample)
    rows = [_row("python -c pass", bare), _row("import haulage", client)]
    rows.append(_row("one worker process until it takes tasks", _median(houses)))
    programs = {each.name: each.idle for each in peers.downloaders("http://127.0.0.1/x", 1)}
    rows += [_row(f"{name}: {' '.join(idle[1:])}", peers.start_up(tuple(idle))) for name, idle in programs.items()]
    report.heading("Start-up", report.load())
    report.table(["", "CPU s", "wall s"], rows)


def _median(samples: list[Sample]) -> Sample:
    return Sample(median(each.wall_seconds for each in samples), median(each.cpu_seconds for each in samples))


def _row(name: str, sample: Sample) -> list[str]:
    return [name, f"{sample.cpu_seconds:.2f}", f"{sample.wall_seconds:.2f}"]
