"""``python -m benchmarks [names]``: starts real servers on the loopback, measures, prints Markdown."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import control, download, first_byte, report, start_up, upload
from benchmarks.bench import MIB, Bench

BENCHMARKS: dict[str, Callable[[Bench], None]] = {
    "start_up": start_up.run,
    "download": download.run,
    "upload": upload.run,
    "control": control.run,
    "first_byte": first_byte.run,
}
_FAST_FOLDER = Path("/dev/shm")  # noqa: S108 - a private folder is made in it


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure Haulage side by side with other tools.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the object (default: 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (default: 5)")
    parser.add_argument("--parts", type=int, nargs="+", default=[100, 1000, 10_000], help="for the control plane")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="data processes of our worker")
    parser.add_argument("--target-folder", type=Path, help="where downloads go (default: memory where it is large)")
    asked = parser.parse_args()
    names = asked.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(BENCHMARKS)}")
    _leave_foreign_settings_behind()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through every ``with`` block
    report.out(f"Machine: {report.machine()}")
    for name in names:
        with _folder(None) as folder, _folder(asked.target_folder or _fast(asked.size_mib)) as target:
            bench = Bench(
                folder=folder,
                target=target / "object.bin",
                size_bytes=asked.size_mib * MIB,
                rounds=asked.rounds,
                parts=tuple(asked.parts),
                processes=asked.processes,
            )
            BENCHMARKS[name](bench)


@contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="haulage-bench-", dir=parent) as path:
        yield Path(path)


def _fast(size_mib: int) -> Path | None:
    """Memory: a disk would measure itself, and we are the only ones who wait for it (fsync)."""
    if _FAST_FOLDER.is_dir() and shutil.disk_usage(_FAST_FOLDER).free > 3 * size_mib * MIB:
        return _FAST_FOLDER
    return None


def _leave_foreign_settings_behind() -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "HAULAGE_", "RCLONE_")) or name.lower().endswith(("_ca_bundle", "_proxy")):
            del os.environ[name]


if __name__ == "__main__":
    main()
