"""Everything the demo plays on: a file of random bytes, three servers, a fleet of workers. All gone at the end."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from tests.e2e.fleet import Fleet, WorkerProcess
from tests.servers.nginx import Nginx
from tests.servers.s3_server import S3Server

MIB = 1 << 20
SIZE_BYTES = 512 * MIB
BYTES_PER_SECOND = 4 * MIB
"""Each connection gets this much: slow enough to watch, and to be killed in the middle of a part."""
PARTS_IN_FLIGHT = 8
THREADS = 4
BUCKET, KEY = "demo", "backup/random.bin"


class Stage:
    """``origin`` serves the source, ``gate`` stands before the S3 server; both throttle and keep an access log."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started = 0
        self.workers: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        """Start the servers; where one fails, those before it are stopped."""
        _leave_foreign_settings_behind()
        _end_on_sigterm()
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="haulage-demo-")))
            self.source = self.folder / "www" / "random.bin"
            self.target = self.folder / "restored" / "random.bin"
            self.target.parent.mkdir()
            self.origin = stack.enter_context(Nginx(self.source.parent, limit_rate=BYTES_PER_SECOND))
            self.store = stack.enter_context(S3Server(self.folder / "s3"))
            self.store.make_bucket(BUCKET)
            self.gate = stack.enter_context(_gate_to(self.store, self.folder))
            profile = {**self.store.profile, "endpoint": self.gate.url().rstrip("/")}
            defaults = {"lease_seconds": 10, "renew_seconds": 1, "sweep_seconds": 1}
            named = {f"profile_s3__{key}": value for key, value in profile.items()}
            self.fleet = stack.enter_context(Fleet(self.folder, host="demo", **defaults, **named))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write_source(self) -> str:
        """Write random bytes, and answer their SHA-256."""
        digest = hashlib.sha256()
        with self.source.open("wb") as file:
            for _ in range(SIZE_BYTES // MIB):
                block = os.urandom(MIB)
                digest.update(block)
                file.write(block)
        return digest.hexdigest()

    def start_worker(self, *, wait: bool) -> WorkerProcess:
        """One more worker process; they are called w1, w2 and so on."""
        self._started += 1
        worker = self.fleet.worker(f"w{self._started}", threads=THREADS, wait=wait)
        self.workers.append(worker)
        return worker

    @property
    def alive(self) -> list[WorkerProcess]:
        """Oldest first."""
        return [each for each in self.workers if each.alive]

    def hash_of_object(self) -> str:
        """Read it back past the gate and by another client than ours."""
        digest = hashlib.sha256()
        for block in self.store.client().get_object(Bucket=BUCKET, Key=KEY)["Body"].iter_chunks(MIB):
            digest.update(block)
        return digest.hexdigest()

    def hash_of_target(self) -> str:
        with self.target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _gate_to(store: S3Server, folder: Path) -> Nginx:
    """A reverse proxy that passes everything on as it comes: the Host header too, because it is signed."""
    directives = f"""
        proxy_pass {store.endpoint};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_request_buffering off;
        proxy_max_temp_file_size 0;
    """
    return Nginx(folder / "gate", limit_rate=BYTES_PER_SECOND, directives=directives)


def _leave_foreign_settings_behind() -> None:
    """Certificates, proxies and credentials of this machine are none of the demo's business."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "HAULAGE_")) or name.endswith("_CA_BUNDLE") or name.lower().endswith("_proxy"):
            del os.environ[name]


def _end_on_sigterm() -> None:
    """As Ctrl-C does: through every ``with`` block."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
