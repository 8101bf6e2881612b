"""One worker process, as the supervisor starts it: ``python -m workers.process --pools data --threads 8``.

It dies with its supervisor, also when that one is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import warnings

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> None:
    """Run until stopped."""
    parser = argparse.ArgumentParser(prog="workers.process")
    parser.add_argument("--pools", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    options = parser.parse_args(arguments)
    _die_with(options.parent)
    pools = tuple(options.pools.split(","))
    os.environ["HAULAGE_PROCESS_POOLS"] = options.pools
    os.environ["HAULAGE_PROCESS_THREADS"] = str(options.threads)
    os.environ["HAULAGE_PROCESS_NAME"] = options.name

    from celery.platforms import SecurityWarning

    from orchestrator.queues import queues_of
    from orchestrator.settings import load_settings
    from workers.app import app

    settings = load_settings()
    # In a container the worker often is root, and takes JSON only: the warning is about pickle.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Not through ``worker_main``: Celery's command line imports all its commands, Flower's too: half a second.
    worker = app.Worker(
        pool_cls="threads",
        concurrency=options.threads,
        queues=queues_of(settings.host, pools),
        hostname=f"{options.name}@{settings.host}",
        without_mingle=True,
        without_gossip=True,
        loglevel=settings.log_level,
        quiet=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


def _die_with(parent: int) -> None:
    """SIGKILL for us when the parent dies: leases are made for that, and a worker nobody watches is worse."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the supervisor has gone")
    if sys.platform != "linux":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while not threading.Event().wait(1.0):
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
