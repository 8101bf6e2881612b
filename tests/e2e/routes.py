"""Ways from one place to another whose servers can be slowed down, and whose logs say what was sent how often."""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.servers.logging_proxy import Entry, LoggingProxy
from tests.servers.range_server import RangeServer
from tests.servers.s3_server import S3Server

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one part, as a server saw it; ``began`` is unix time."""

    part: int
    began: float
    size_bytes: int


class Route(Protocol):
    """One object on its way. It starts slow; ``calm`` lets it go as fast as it can."""

    size_bytes: int
    part_size: int
    expected: str
    """SHA-256 of the source."""
    source: str
    destination: str
    options: dict[str, Any]
    settings: dict[str, str]
    """Profiles for workers and client."""
    bytes_move: bool
    """False where no byte passes a worker."""

    def calm(self) -> None: ...
    def attempts(self) -> list[list[Attempt]]:
        """One list for each server that parts pass."""
        ...

    def arrived(self) -> str:
        """SHA-256 of what is at the destination, read by another road."""
        ...

    def stamp(self) -> object:
        """Changes when anybody writes to the object again."""
        ...

    def leftovers(self) -> list[str]:
        """Temporary files and open uploads at the destination."""
        ...


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return random.Random(f"{size_bytes}-{seed}").randbytes(size_bytes)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ranged(start: str, part_size: int) -> int:
    """Part number of a ``Range`` header, which names the first byte of a part."""
    return int(start.removeprefix("bytes=").partition("-")[0]) // part_size + 1


class HttpToLocal:
    """A throttled web server -> a folder of its own."""

    def __init__(self, server: RangeServer, folder: Path, data: bytes, *, part_size: int) -> None:
        folder.mkdir()
        self.size_bytes, self.part_size, self.expected = len(data), part_size, digest(data)
        self.server, self.folder = server, folder
        self.source = server.serve("/object.bin", data)
        self.destination = f"{folder}/object.bin"
        self.options = {"part_size": part_size}
        self.settings: dict[str, str] = {}
        self.bytes_move = True

    def calm(self) -> None:
        self.server.throttle = None

    def attempts(self) -> list[list[Attempt]]:
        return [
            [
                Attempt(ranged(each.range, self.part_size), each.unix_time, each.bytes_sent)
                for each in list(self.server.requests)
                if each.method == "GET" and each.range and each.bytes_sent > 1  # one byte: the probe
            ]
        ]

    def arrived(self) -> str:
        return digest(Path(self.destination).read_bytes())

    def stamp(self) -> object:
        facts = Path(self.destination).stat()
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def leftovers(self) -> list[str]:
        return [each for each in os.listdir(self.folder) if each != "object.bin"]


class ToS3:
    """What routes into an S3 server share: a proxy before it, a fresh key, a profile each way."""

    def __init__(self, store: S3Server, bucket: str, proxy: LoggingProxy, data: bytes, part_size: int) -> None:
        self.size_bytes, self.part_size, self.expected = len(data), part_size, digest(data)
        self.store, self.bucket, self.proxy = store, bucket, proxy
        self.key = f"{uuid.uuid4().hex}.bin"
        self.source = ""
        self.destination = f"s3://{bucket}/{self.key}"
        self.settings = profile("to", store, proxy)
        self.options: dict[str, Any] = {"part_size": part_size, "destination_profile": "to"}
        self.bytes_move = True

    def calm(self) -> None:
        self.proxy.calm()

    def attempts(self) -> list[list[Attempt]]:
        return [
            [
                Attempt(each.part_number, each.began, each.sent_bytes)
                for each in self._puts()
                if each.part_number is not None
            ]
        ]

    def arrived(self) -> str:
        return digest(self.store.read(self.bucket, self.key))

    def stamp(self) -> object:
        head = self.store.client().head_object(Bucket=self.bucket, Key=self.key)
        return head["LastModified"], head["ETag"], head["ContentLength"]

    def leftovers(self) -> list[str]:
        found = self.store.client().list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [each["UploadId"] for each in found if each["Key"] == self.key]

    def _puts(self) -> list[Entry]:
        return self.proxy.requests("PUT", self.key)


class LocalToS3(ToS3):
    def __init__(self, store: S3Server, proxy: LoggingProxy, folder: Path, data: bytes, *, part_size: int) -> None:
        super().__init__(store, "near", proxy, data, part_size)
        path = folder / "source.bin"
        path.write_bytes(data)
        self.source = str(path)


class Relay(ToS3):
    """Two services that know nothing of each other: each byte passes a worker."""

    def __init__(
        self,
        near: S3Server,
        near_proxy: LoggingProxy,
        far: S3Server,
        far_proxy: LoggingProxy,
        data: bytes,
        *,
        part_size: int,
    ) -> None:
        super().__init__(far, "far", far_proxy, data, part_size)
        self.near_proxy = near_proxy
        near.client().put_object(Bucket="near", Key=f"from-{self.key}", Body=data)
        self.source = f"s3://near/from-{self.key}"
        self.settings |= profile("from", near, near_proxy)
        self.options |= {"source_profile": "from", "copy": "relay"}

    def calm(self) -> None:
        super().calm()
        self.near_proxy.calm()

    def attempts(self) -> list[list[Attempt]]:
        read = [
            Attempt(ranged(each.range, self.part_size), each.began, each.received_bytes)
            for each in self.near_proxy.requests("GET", self.key)
            if each.range
        ]
        return [*super().attempts(), read]


class ServerCopy(ToS3):
    """Inside one service: a part is one UploadPartCopy, whose reply the proxy holds back."""

    def __init__(self, store: S3Server, proxy: LoggingProxy, data: bytes, *, part_size: int) -> None:
        super().__init__(store, "near", proxy, data, part_size)
        store.client().put_object(Bucket="near", Key=f"from-{self.key}", Body=data)
        self.source = f"s3://near/from-{self.key}"
        self.options |= {"source_profile": "to", "copy": "server"}
        self.bytes_move = False

    def attempts(self) -> list[list[Attempt]]:
        (puts,) = super().attempts()
        return [[Attempt(each.part, each.began, min(self.part_size, self._left(each.part))) for each in puts]]

    def _left(self, part: int) -> int:
        return self.size_bytes - (part - 1) * self.part_size


def profile(name: str, store: S3Server, proxy: LoggingProxy) -> dict[str, str]:
    values = {**store.profile, "endpoint": proxy.endpoint, "addressing": "path"}
    return {f"PROFILE_{name.upper()}__{key.upper()}": value for key, value in values.items()}


PART_SECONDS = 40.0
"""How long a part would take while its server is slow: until ``calm``, none is done."""


@contextmanager
def open_route(name: str, folder: Path, near: S3Server | None, far: S3Server | None) -> Iterator[Route]:
    """``near`` and ``far`` may be missing where the route needs no store."""
    with ExitStack() as stack:
        route: Route
        if name == "http-local":
            server = stack.enter_context(RangeServer())
            server.throttle = int(256 * KIB / PART_SECONDS)
            route = HttpToLocal(server, folder / "out", noise(2 * MIB + 17), part_size=256 * KIB)
        else:
            assert near is not None
            proxy = stack.enter_context(LoggingProxy(near.endpoint))
            data, part_size = noise(30 * MIB + 17), 5 * MIB
            rate = int(part_size / PART_SECONDS)
            if name == "local-s3":
                proxy.bytes_per_second = rate
                route = LocalToS3(near, proxy, folder, data, part_size=part_size)
            elif name == "s3-s3-relay":
                assert far is not None
                far_proxy = stack.enter_context(LoggingProxy(far.endpoint))
                proxy.bytes_per_second = rate
                route = Relay(near, proxy, far, far_proxy, data, part_size=part_size)
            else:
                proxy.delay_reply(PART_SECONDS, "PUT", "partNumber=", times=1000)
                route = ServerCopy(near, proxy, data, part_size=part_size)
        yield route
