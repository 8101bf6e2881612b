"""One of many applications that submit at once: ``python -m tests.e2e.submitter NAME < items``.

Reads a JSON list of [source, destination, options], waits for a line on stdin, submits all, one by one or (NAME ends in
an even digit) in one call, and prints what became of each.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from haulage import DuplicateTransfer, HaulageError, Submission, TransferClient


def one_by_one(client: TransferClient, items: list[Any]) -> list[Submission]:
    outcomes = []
    for source, destination, options in items:
        try:
            outcomes.append(Submission("taken", client.submit(source, destination, **options)))
        except DuplicateTransfer as exc:
            outcomes.append(Submission("refused", "", exc))
    return outcomes


def told(outcome: Submission) -> list[str]:
    error = outcome.error
    of = error.transfer_id if isinstance(error, DuplicateTransfer) else outcome.transfer_id
    return [outcome.status, error.code if isinstance(error, HaulageError) else "", of]


def main() -> None:
    items = json.loads(sys.stdin.readline())
    with TransferClient() as client:
        client.workers()  # connected, so that all start together
        print("ready", flush=True)
        sys.stdin.readline()
        in_one_call = int(sys.argv[1][-1]) % 2 == 0
        outcomes = client.submit_many(items) if in_one_call else one_by_one(client, items)
    print(json.dumps([told(each) for each in outcomes]))


if __name__ == "__main__":
    main()
