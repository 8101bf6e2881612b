"""``python -m haulage.engine --folder ...``: runs the engine in the foreground; ``--detach`` as clients start it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from pathlib import Path

from haulage.engine.folders import place_of
from haulage.engine.identity import DIGEST_VARIABLE, fingerprints, own_umask
from haulage.engine.process import Options, run
from orchestrator.errors import HaulageError


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a clean end or when another engine serves the folder already, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m haulage.engine", description="The one-machine engine of Haulage.")
    parser.add_argument("--folder", type=Path, help="default: the user's state folder")
    parser.add_argument("--detach", action="store_true", help="leave the process that started it")
    parser.add_argument("--umask", type=lambda text: int(text, 8), help="of the files that transfers make")
    parser.add_argument("--report-to", type=int, help="a descriptor that hears why it did not start")
    options = parser.parse_args(arguments)
    if options.detach and os.fork():
        os._exit(0)
    if options.report_to is not None:
        os.set_inheritable(options.report_to, False)
    umask = own_umask() if options.umask is None else options.umask
    os.umask(0o077)
    settings_digest = os.environ.pop(DIGEST_VARIABLE, "")
    variables = fingerprints(os.environ, umask)
    try:
        said, code = run(Options(place_of(options.folder), umask, settings_digest, variables)), 0
    except HaulageError as exc:
        said, code = f"failed: {exc}", 1
        sys.stderr.write(f"{exc}\n")
    except Exception as exc:
        said, code = f"failed: {type(exc).__name__}: {exc}", 1
        traceback.print_exc()
    if options.report_to is not None:
        with contextlib.suppress(OSError):  # nobody listens any more
            os.write(options.report_to, said.encode())
    return code


if __name__ == "__main__":
    sys.exit(main())
