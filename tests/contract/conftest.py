"""Every place a provider can reach, as the contract suite sees it: our road, and another road to write and read."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from providers.base import MIB, Destination, Options, Profile, Services, Source
from providers.registry import open_destination, open_source
from providers.schemes import parse
from tests.servers.azurite import Azurite
from tests.servers.nginx import Nginx
from tests.servers.oss_server import OssServer
from tests.servers.s3_server import S3Server


class FakeBlobs:
    """The BlobStore of a process: what Redis does with strings, in a dict."""

    def __init__(self) -> None:
        self.strings: dict[str, bytearray] = {}
        self._lock = threading.Lock()

    def size(self, name: str) -> int | None:
        with self._lock:
            return len(self.strings[name]) if name in self.strings else None

    def read(self, name: str, start: int, stop: int) -> bytes:
        with self._lock:
            return bytes(self.strings.get(name, b"")[start:stop])

    def write(self, name: str, start: int, data: bytes) -> None:
        with self._lock:
            string = self.strings.setdefault(name, bytearray())
            string.extend(bytes(max(0, start + len(data) - len(string))))
            string[start : start + len(data)] = data

    def rename(self, name: str, new_name: str, *, replace: bool) -> bool:
        with self._lock:
            if name not in self.strings or (new_name in self.strings and not replace):
                return False
            self.strings[new_name] = self.strings.pop(name)
            return True

    def remove(self, name: str) -> None:
        with self._lock:
            self.strings.pop(name, None)


@dataclass(frozen=True)
class Place:
    """One storage. ``url`` names an object in it; ``store`` and ``read`` use another road than ours."""

    url: Callable[[str], str]
    store: Callable[[str, bytes], None]
    read: Callable[[str], bytes | None]
    part_bytes: int
    """The size of a part in tests: the smallest the store takes, and no round number where it takes any."""
    profile: Profile = field(default_factory=lambda: Profile("test"))
    services: Services = field(default_factory=Services)
    transfer_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    refuses_late_parts: bool = True
    """False where an upload is nothing the store knows of: a part for one that has ended is kept, and never used."""

    def source(self, name: str) -> Source:
        return open_source(parse(self.url(name), "source"), self.profile, self._options(), self.services)

    def source_of(self, data: bytes, name: str = "object.bin") -> Source:
        self.store(name, data)
        return self.source(name)

    def destination(self, name: str = "object.bin", options: Options | None = None) -> Destination:
        location = parse(self.url(name), "destination")
        return open_destination(location, self.profile, self._options(options or Options()), self.services)

    def _options(self, options: Options | None = None) -> Options:
        given = options or Options()
        return replace(given, transfer_id=given.transfer_id or self.transfer_id)


_clock = count(1_700_000_000)


def _write_file(path: Path, data: bytes) -> None:
    """Each write is a second after the one before: nginx and old kernels tell changes by coarse clocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    now = next(_clock)
    os.utime(path, (now, now))


def _read_file(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    folder = tmp_path / "files"
    return Place(
        url=lambda name: str(folder / name),
        store=lambda name, data: _write_file(folder / name, data),
        read=lambda name: _read_file(folder / name),
        part_bytes=70_001,
    )


@pytest.fixture
def memory_place() -> Place:
    blobs = FakeBlobs()

    def read(name: str) -> bytes | None:
        return bytes(blobs.strings[name]) if name in blobs.strings else None

    def store(name: str, data: bytes) -> None:
        blobs.strings[name] = bytearray(data)

    return Place(lambda name: f"mem:{name}", store, read, part_bytes=70_001, services=Services(blobs=blobs))


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("http") / "www", put=True) as server:
        yield server


@pytest.fixture
def http_place(http_server: Nginx) -> Place:
    folder = http_server.root / uuid.uuid4().hex
    return Place(
        url=lambda name: http_server.url(f"{folder.name}/{name}"),
        store=lambda name, data: _write_file(folder / name, data),
        read=lambda name: _read_file(folder / name),
        part_bytes=MIB,
    )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("contract")
        yield server


@pytest.fixture(scope="session")
def s3_client(s3_server: S3Server) -> Any:
    """Once a session: to make one takes longer than most tests."""
    return s3_server.client()


@pytest.fixture
def s3_place(s3_server: S3Server, s3_client: Any) -> Place:
    prefix = uuid.uuid4().hex

    def store(name: str, data: bytes) -> None:
        s3_client.put_object(Bucket="contract", Key=f"{prefix}/{name}", Body=data)

    def read(name: str) -> bytes | None:
        try:
            data: bytes = s3_client.get_object(Bucket="contract", Key=f"{prefix}/{name}")["Body"].read()
        except s3_client.exceptions.NoSuchKey:
            return None
        return data

    profile = Profile("test", s3_server.profile)
    return Place(lambda name: f"s3://contract/{prefix}/{name}", store, read, part_bytes=5 * MIB, profile=profile)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        server.make_container("contract")
        yield server


@pytest.fixture
def azure_place(azurite: Azurite) -> Place:
    prefix = uuid.uuid4().hex

    def store(name: str, data: bytes) -> None:
        azurite.blob("contract", f"{prefix}/{name}").upload_blob(data, overwrite=True)

    return Place(
        lambda name: f"azblob://contract/{prefix}/{name}",
        store,
        read=lambda name: azurite.read_if_there("contract", f"{prefix}/{name}"),
        part_bytes=70_001,
        profile=Profile("test", azurite.profile),
        refuses_late_parts=False,
    )


@pytest.fixture(scope="session")
def oss_server() -> Iterator[OssServer]:
    with OssServer() as server:
        server.make_bucket("contract")
        yield server


@pytest.fixture
def oss_place(oss_server: OssServer) -> Place:
    prefix = uuid.uuid4().hex
    return Place(
        lambda name: f"oss://contract/{prefix}/{name}",
        store=lambda name, data: oss_server.bucket("contract").put_object(f"{prefix}/{name}", data),
        read=lambda name: oss_server.read_if_there("contract", f"{prefix}/{name}"),
        part_bytes=100 << 10,
        profile=Profile("test", oss_server.profile),
    )


def _named(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(f"{request.param}_place")
    return place


@pytest.fixture(params=["local", "memory", "s3", "oss", "azure"])
def place(request: pytest.FixtureRequest) -> Place:
    """A store that takes an object in parts."""
    return _named(request)


@pytest.fixture(params=["local", "memory", "s3", "oss", "azure", "http"])
def whole_place(request: pytest.FixtureRequest) -> Place:
    """A store that takes an object at all, if only by one PUT."""
    return _named(request)


@pytest.fixture(params=["local", "memory", "s3", "oss", "azure", "http"])
def origin(request: pytest.FixtureRequest) -> Place:
    """A store that objects are read from."""
    return _named(request)


@pytest.fixture(params=["s3", "oss", "azure"])
def listing_place(request: pytest.FixtureRequest) -> Place:
    """A store that says which parts it holds."""
    return _named(request)
