"""Submit many transfers at once and wait for all: ``python -m examples.many FOLDER s3://bucket/prefix``.

The calls return at once; the fleet works on as many as its slots allow. Run again, it sends only what is not there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from haulage import DuplicateTransfer, HaulageError, TransferClient


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: python -m examples.many FOLDER s3://bucket/prefix", file=sys.stderr)
        return 2
    folder, prefix = Path(sys.argv[1]).resolve(), sys.argv[2].rstrip("/")
    failed = 0
    with TransferClient() as client:
        submitted: dict[str, Path] = {}
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            target = f"{prefix}/{path.relative_to(folder).as_posix()}"
            try:
                submitted[client.submit(str(path), target, on_exists="skip", reference=path.name)] = path
            except DuplicateTransfer as exc:
                submitted[exc.transfer_id] = path  # somebody moves it already: wait for that one
        for transfer_id, path in submitted.items():
            try:
                client.wait(transfer_id)
            except HaulageError as exc:
                failed += 1
                print(f"{path}: {exc.code}: {exc}", file=sys.stderr)
    print(f"{len(submitted) - failed} of {len(submitted)} files are there")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
