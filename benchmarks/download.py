"""HTTP -> file, with one and with four requests in flight."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks import peers, report
from benchmarks.bench import Bench, write_random
from benchmarks.house import QUANTUM, SHORT_QUANTUM, House
from benchmarks.measure import Sample
from benchmarks.rounds import OURS, run_rounds
from tests.servers.nginx import Nginx


def run(bench: Bench) -> None:
    source = write_random(bench.folder / "www" / "object.bin", bench.size_bytes)
    with (
        Nginx(source.parent) as server,
        House(bench.folder / "house", processes=bench.processes) as house,
        House(bench.folder / "quantum", processes=bench.processes, **SHORT_QUANTUM) as quantum,
    ):
        url = server.url(source.name)
        for in_flight in (1, 4):
            contestants = {
                OURS: partial(_ours, house, url, bench.target, in_flight),
                QUANTUM: partial(_ours, quantum, url, bench.target, in_flight),
            }
            for peer in peers.downloaders(url, in_flight):
                contestants[peer.name] = partial(_theirs, peer, bench.target)
            report.heading(
                f"HTTP -> file, {bench.size_bytes // report.MIB} MiB, {in_flight} in flight",
                *peers.missing(*(["curl"] if in_flight == 1 else []), "aria2c", "rclone", "bytehaul"),
                report.load(),
            )
            report.contest(run_rounds(contestants, bench.rounds))


def _ours(house: House, url: str, target: Path, in_flight: int) -> Sample:
    sample, transfer = house.transfer(url, str(target), parts_in_flight=in_flight)
    _check(target, transfer.progress.total_bytes)
    return sample


def _theirs(peer: peers.Peer, target: Path) -> Sample:
    sample = peer.run(str(target))
    _check(target, None)
    return sample


def _check(target: Path, size_bytes: int | None) -> None:
    """It is there; the next one finds no file and no pages of it."""
    assert size_bytes in (None, target.stat().st_size)
    target.unlink()
