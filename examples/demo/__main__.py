"""The main job, for everyone to see: HTTP -> S3 -> local file, and in each leg a worker dies in the middle of parts.

Real servers on the loopback, started here and stopped here. Exit code 0 only if all is as promised.
"""

from __future__ import annotations

import sys
import time

from examples.demo.leg import Director, Leg, LegFailed
from examples.demo.report import Result, show
from examples.demo.screen import Screen
from examples.demo.stage import BUCKET, BYTES_PER_SECOND, KEY, MIB, SIZE_BYTES, Stage
from examples.demo.tally import Tally, tally_reads, tally_writes
from haulage import HaulageError
from tests.servers.nginx import Nginx
from tests.servers.process import ServerFailed, ServerMissing, wait_until

INTERRUPTED = 130


def main() -> int:
    screen = Screen()
    try:
        with Stage() as stage:
            return 0 if _play(stage, screen) else 1
    except KeyboardInterrupt:
        screen.close()
        screen.say("interrupted: servers and workers are stopped, files are removed")
        return INTERRUPTED
    except (HaulageError, LegFailed, ServerFailed, ServerMissing, TimeoutError) as exc:
        screen.close()
        screen.console.print(f"[bold red]✗[/] {type(exc).__name__}: ", end="")
        screen.console.print(str(exc), markup=False, soft_wrap=True)
        return 1
    finally:
        screen.close()


def _play(stage: Stage, screen: Screen) -> bool:
    began = time.monotonic()
    screen.say(f"a web server and an S3 server, {BYTES_PER_SECOND // MIB} MiB/s per connection; Valkey")
    expected = stage.write_source()
    screen.say(f"{SIZE_BYTES // MIB} MiB of random bytes, sha256 {expected[:16]}…")
    for _ in range(2):
        worker = stage.start_worker(wait=True)
        screen.say(f"started {worker.name} (pid {worker.pid})")
    director, s3_url = Director(stage, screen), f"s3://{BUCKET}/{KEY}"

    first = director.play("leg 1: HTTP -> S3", stage.origin.url(stage.source.name), s3_url)
    up = Result(first, {"read": _reads(stage.origin, first), "written": _writes(stage.gate, first)}, "")
    up = Result(first, up.tallies, stage.hash_of_object())
    screen.say(f"the object, read back from the S3 server: sha256 {up.digest[:16]}…")

    second = director.play("leg 2: S3 -> local file", s3_url, str(stage.target))
    down = Result(second, {"read": _reads(stage.gate, second)}, stage.hash_of_target())
    screen.say(f"the file: sha256 {down.digest[:16]}…")
    return show(screen.console, [up, down], expected, time.monotonic() - began)


def _reads(server: Nginx, leg: Leg) -> Tally:
    """A line of the log comes after the last byte of its reply: wait for the last ones."""
    wait_until(lambda: _counted(server, leg).parts == leg.parts, "the access log shows every part")
    return _counted(server, leg)


def _counted(server: Nginx, leg: Leg) -> Tally:
    return tally_reads(server.requests(), SIZE_BYTES, leg.part_bytes)


def _writes(server: Nginx, leg: Leg) -> Tally:
    return tally_writes(server.requests(), SIZE_BYTES, leg.part_bytes)


if __name__ == "__main__":
    sys.exit(main())
