"""Submit to first byte: from the call to the first request for a part in the web server's log."""

from __future__ import annotations

import time
from contextlib import suppress
from statistics import median

from benchmarks import report
from benchmarks.bench import MIB, Bench
from benchmarks.house import House
from benchmarks.rounds import Figure
from haulage import TransferCancelled, TransferEnded
from tests.servers.nginx import Nginx, Request
from tests.servers.process import wait_until

PART_BYTES = 64 << 10
RUNS = {1: 21, 10_000: 11}


def run(bench: Bench) -> None:
    folder = bench.folder / "www"
    with Nginx(folder) as server, House(bench.folder / "house", processes=bench.processes) as house:
        rows = []
        for parts, runs in RUNS.items():
            with (folder / f"{parts}.bin").open("wb") as file:
                file.truncate(parts * PART_BYTES)
            samples = [_one(bench, server, house, parts, run_no) for run_no in range(runs + 1)][1:]
            calls, firsts = ([1000 * each[at] for each in samples] for at in (0, 1))
            rows.append([f"{parts:,}", f"{median(firsts):.0f}", Figure.of(firsts).text(0), f"{median(calls):.1f}"])
        size = max(RUNS) * PART_BYTES // MIB
        report.heading("Submit to first byte", f"HTTP -> file, up to {size} MiB. {report.load()}")
        report.table(["parts", "p50 ms", "p50 (range)", "the call to submit, p50 ms"], rows)


def _one(bench: Bench, server: Nginx, house: House, parts: int, run_no: int) -> tuple[float, float]:
    """Seconds of the call, and until the first part was asked for."""
    client, name = house.fleet.client, f"{parts}.bin?run={run_no}"
    target = bench.folder / "object.bin"  # on a disk: in memory, to reserve the file's room is to allocate it
    began = time.time()
    transfer_id = client.submit(server.url() + name, str(target), part_size=PART_BYTES)
    called = time.time() - began
    wait_until(lambda: client.get(transfer_id).progress.parts_done > 0, "a part is stored", deadline_seconds=30)
    with suppress(TransferEnded):  # a small one is done by now
        client.cancel(transfer_id)
    with suppress(TransferCancelled):
        client.wait(transfer_id, timeout_seconds=60)
    wait_until(lambda: bool(_parts(server, name)), "the access log has it")
    target.unlink(missing_ok=True)
    return called, min(each.started for each in _parts(server, name)) - began


def _parts(server: Nginx, name: str) -> list[Request]:
    """GETs of a part: not the look at the first byte."""
    found = [each for each in server.requests() if each.path.endswith(f"/{name}") and each.method == "GET"]
    return [each for each in found if each.range and each.range != "bytes=0-0"]
