"""What tests work with that kill nothing: one calm fleet for all of a pytest process, and places of their own."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import Transfer, TransferClient
from orchestrator.errors import TransferFailed
from orchestrator.events import read_events
from tests.e2e.fleet import Fleet
from tests.servers.range_server import RangeServer, Request
from tests.servers.s3_server import S3Server

KIB, MIB = 1 << 10, 1 << 20
STORE = "store"
"""The profile that reaches the S3 server."""
QUICK_RETRY = {"base_seconds": 0.02, "cap_seconds": 0.1, "wait_seconds": 0.3}
BUCKET = "things"
_counter = itertools.count(1)


def noise(size_bytes: int) -> bytes:
    """Bytes that are the same for the same size, and different for every other call site's part of them."""
    return random.Random(size_bytes).randbytes(size_bytes)


def sha256(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """An S3 server that starts when it is first asked for: its profile's values are files the workers read late."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile_folder = folder / "profile"
        self.profile_folder.mkdir(parents=True)
        self._server: S3Server | None = None

    @property
    def environment(self) -> dict[str, str]:
        names = ("endpoint", "region", "access_key", "secret_key")
        return {f"profile_{STORE}__{name}_file": str(self.profile_folder / name) for name in names}

    @property
    def server(self) -> S3Server:
        if self._server is None:
            self._server = S3Server(self.folder / "s3").start()
            self._server.make_bucket(BUCKET)
            for name, value in self._server.profile.items():
                (self.profile_folder / name).write_text(value)
        return self._server

    def put(self, key: str, data: bytes) -> str:
        self.server.client().put_object(Bucket=BUCKET, Key=key, Body=data)
        return self.url(key)

    def url(self, key: str) -> str:
        assert self.server
        return f"s3://{BUCKET}/{key}"

    def read(self, key: str) -> bytes:
        return self.server.read(BUCKET, key)

    def exists(self, key: str) -> bool:
        found = self.server.client().list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
        return any(each["Key"] == key for each in found)

    def uploads(self, key: str) -> int:
        """Multipart uploads of this key that are neither completed nor aborted."""
        found = self.server.client().list_multipart_uploads(Bucket=BUCKET, Prefix=key).get("Uploads", [])
        return sum(each["Key"] == key for each in found)

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()


class CalmFleet(Fleet):
    """A fleet of one worker with a store behind it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.store = Store(folder / "store")
        super().__init__(folder, **{**self.store.environment, **settings})

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self.store.close()


class Site:
    """What one test works with; everything it names is its own."""

    def __init__(self, folder: Path, fleet: CalmFleet, web: RangeServer) -> None:
        self.folder = folder
        self.fleet = fleet
        self.web = web
        self.store = fleet.store

    @property
    def client(self) -> TransferClient:
        return self.fleet.client

    def submit(self, source: str | Path, destination: str | Path, **options: Any) -> str:
        """Submit with a quick retry and small parts unless told otherwise."""
        options.setdefault("retry", QUICK_RETRY)
        for role, place in (("source", source), ("destination", destination)):
            if str(place).startswith("s3:"):
                options.setdefault(f"{role}_profile", STORE)
        return self.client.submit(str(source), str(destination), **options)

    def run(self, source: str | Path, destination: str | Path, **options: Any) -> Transfer:
        """Submit and wait for the end. Raises TransferFailed, TransferCancelled."""
        return self.fleet.wait(self.submit(source, destination, **options))

    def fail(self, source: str | Path, destination: str | Path, **options: Any) -> tuple[int, str]:
        """Submit what has to fail; answers the number and code of its error."""
        with pytest.raises(TransferFailed) as raised:
            self.run(source, destination, **options)
        return raised.value.number, raised.value.code

    def file(self, data: bytes, name: str = "source.bin") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def key(self) -> str:
        """A key nobody used before."""
        return f"k{os.getpid()}-{next(_counter)}-{uuid.uuid4().hex[:8]}.bin"

    def kinds(self, transfer_id: str) -> list[str]:
        """The kinds of its events so far."""
        return [each.kind for each in read_events(self.fleet.ledger, transfer_id)]

    def gets(self, path: str) -> list[Request]:
        """The data requests of the web server's log, in their order."""
        return [each for each in self.web.requests if each.method == "GET" and each.path.partition("?")[0] == path]

    def starts(self, path: str) -> list[int]:
        """First bytes of the ranges that were asked for."""
        return [int(each.range.removeprefix("bytes=").split("-")[0]) for each in self.gets(path) if each.range]


def partial_files(folder: Path) -> list[str]:
    """Temporary files in a folder, whatever their transfer."""
    return sorted(each for each in os.listdir(folder) if each.endswith(".haulage"))
