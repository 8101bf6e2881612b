"""An application that makes a client, forks, and uses the client on both sides at once: ``... URL HOW``.

Prints what each side submitted and whether the connections were its own. HOW: os.fork, multiprocessing or billiard (the
children of Celery's prefork pool).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from haulage import TransferClient

COUNT = 40


def work(client: TransferClient, side: str) -> dict[str, Any]:
    """Submit from two threads, and look at all of it with the client that both sides have."""
    sent: list[str] = []

    def submit(first: int) -> None:
        mine = range(first, COUNT, 2)
        sent.extend(client.submit(f"/from/{side}/{number}", f"/to/{side}/{number}") for number in mine)

    threads = [threading.Thread(target=submit, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sides = {client.get(each).source.split("/")[-2] for each in sent}
    return {"side": side, "sent": sent, "sides": sorted(sides), "ledger": id(client._held.ledger)}


def child(client: TransferClient, heard: list[object], report: int) -> None:
    """In the forked process. What the parent made is not used, and not cancelled."""
    try:
        found: dict[str, Any] = work(client, "child")
        found["mine"] = client._held.mine()
        listener = client.on_progress(heard.append)
        found["removed"] = client.remove_listener(listener)
        client.shutdown(cancel=True)
    except BaseException:
        found = {"error": traceback.format_exc()}
    os.write(report, json.dumps(found).encode())


def fork(how: str, run: Callable[[], None]) -> Callable[[], None]:
    """Start ``run`` in a forked child; answers what waits for its end."""
    if how == "os.fork":
        if pid := os.fork():
            return lambda: print(os.waitpid(pid, 0)[1], file=sys.stderr)
        run()
        os._exit(0)
    if how == "billiard":
        import billiard

        process: Any = billiard.get_context("fork").Process(target=run)
    else:
        process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return lambda: process.join()


def main() -> None:
    url, how = sys.argv[1:]
    heard: list[object] = []
    client = TransferClient(redis_url=url, host="here", redis_retry_seconds=0)
    first = client.submit("/from/parent/first", "/to/parent/first")
    client.on_progress(heard.append)
    ledger = id(client._held.ledger)
    read, write = os.pipe()
    with client._held._lock:  # a thread of the parent may hold any lock at that moment
        wait = fork(how, lambda: child(client, heard, write))
    mine = work(client, "parent")
    wait()
    theirs = json.loads(os.read(read, 1 << 20))
    states = {each: str(client.get(each).state) for each in [first, *mine["sent"], *theirs.get("sent", ())]}
    print(json.dumps({"first": first, "ledger": ledger, "parent": mine, "child": theirs, "states": states}))
    client.close()


if __name__ == "__main__":
    main()
