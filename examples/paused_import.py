"""Import a list paused, look, and resume a part of it: ``python -m examples.paused_import LIST FOLDER WORD``.

LIST has a URL on each line. All are registered, without a request to anybody; those that contain WORD are started. The
others stay for later: ``haulage resume ID``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from haulage import HaulageError, TransferClient


def main() -> int:
    if len(sys.argv) != 4:
        print("usage: python -m examples.paused_import LIST FOLDER WORD", file=sys.stderr)
        return 2
    urls = [url for line in Path(sys.argv[1]).read_text().splitlines() if (url := line.strip())]
    folder, word = f"{Path(sys.argv[2]).resolve()}/", sys.argv[3]
    try:
        with TransferClient() as client:
            for url in urls:
                client.submit_paused(url, folder, reference="import", idempotency_key=url)
            started = client.resume_all(state="paused", reference="import", source_contains=word)
            for transfer_id in started.changed:
                print(client.wait(transfer_id).source, "is there")
            left = client.list(state="paused", reference="import", limit=len(urls))
    except HaulageError as exc:
        print(f"{exc.code}: {exc}", file=sys.stderr)
        return 1
    print(f"{len(started.changed)} done, {len(left)} paused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
