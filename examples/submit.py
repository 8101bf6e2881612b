"""Submit a transfer and follow it to its end: ``python -m examples.submit SOURCE DESTINATION``.

Needs a Redis (HAULAGE_REDIS_URL) and a worker (``haulage worker``), on this machine or any other.
"""

from __future__ import annotations

import sys

from haulage import HaulageError, TransferClient


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: python -m examples.submit SOURCE DESTINATION", file=sys.stderr)
        return 2
    source, destination = sys.argv[1:]
    try:
        with TransferClient() as client:
            # The key makes a second run of this program, after whatever happened to the first, the same transfer.
            transfer_id = client.submit(source, destination, idempotency_key=source)
            for event in client.events(transfer_id):
                print(event.kind, dict(event.data))
            done = client.wait(transfer_id)
    except HaulageError as exc:
        print(f"{exc.code}: {exc}", file=sys.stderr)
        return 1
    print(
        f"{done.progress.durable_bytes} bytes in {done.progress.part_count} parts, verified: {done.result['verified']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
