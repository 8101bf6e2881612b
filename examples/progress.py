"""A progress bar from a callback: ``python -m examples.progress SOURCE DESTINATION``."""

from __future__ import annotations

import sys

from haulage import HaulageError, TransferClient, Update


def show(update: Update) -> None:
    """Called in a thread of the client: first at once, then as bytes move, and for each event."""
    transfer, progress = update.transfer, update.transfer.progress
    bar = "#" * int(progress.ratio * 30)
    eta = "" if progress.eta_seconds is None else f"{progress.eta_seconds:.0f} s left"
    what = update.event.kind if update.event else f"{progress.smoothed_bytes_per_second / 1e6:.1f} MB/s {eta}"
    print(f"[{bar:<30}] {progress.parts_done}/{progress.part_count} parts, {transfer.state}: {what}")


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: python -m examples.progress SOURCE DESTINATION", file=sys.stderr)
        return 2
    try:
        with TransferClient() as client:
            transfer_id = client.submit(*sys.argv[1:])
            client.on_progress(show, transfer_id, interval_seconds=0.5)
            done = client.wait(transfer_id)
        # Leaving the block has delivered the last update.
    except HaulageError as exc:
        print(f"{exc.code}: {exc}", file=sys.stderr)
        return 1
    print(f"{done.progress.durable_bytes} bytes, {done.state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
