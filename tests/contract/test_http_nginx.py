"""HTTP as a source and a destination against a real nginx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from providers.base import ByteRange, BytesBody, Options, Part, Profile, Services, UploadPlan, Validator
from providers.errors import Forbidden, InvalidRange, NotFound, SourceChanged
from providers.http import HttpSource, destination, source
from providers.schemes import parse
from tests.servers.nginx import Nginx
from tests.servers.process import wait_until

DATA = os.urandom(200_000)


def source_of(server: Nginx, path: str = "a.bin") -> HttpSource:
    return source(parse(server.url(path), "source"), Profile("p"), Options(), Services())


def read(from_: HttpSource, span: ByteRange, validator: Validator) -> bytes:
    buffer, data = memoryview(bytearray(50_000)), bytearray()
    body = from_.read_range(span, validator=validator)
    while count := body.readinto(buffer):
        data += buffer[:count]
    body.close()
    return bytes(data)


def serving(folder: Path, **options: Any) -> Nginx:
    root = folder / "www"
    root.mkdir()
    (root / "a.bin").write_bytes(DATA)
    return Nginx(root, **options)


@pytest.mark.parametrize(("etag", "kind"), [(True, "etag"), (False, "last_modified")])
def test_ranges_are_read_pinned_over_one_connection(tmp_path: Path, etag: bool, kind: str) -> None:
    with serving(tmp_path, etag=etag) as server:
        from_ = source_of(server)
        stat = from_.stat()
        got = [read(from_, ByteRange(at, at + 50_000), stat.validator) for at in range(0, 200_000, 50_000)]
        wait_until(lambda: len(server.requests()) == 5, "all requests are in the log")
        connections = {each.connection for each in server.requests()}

    assert (stat.size_bytes, stat.accepts_ranges, stat.validator.kind) == (200_000, True, kind)
    assert b"".join(got) == DATA
    assert len(connections) == 1


@pytest.mark.parametrize("etag", [True, False])
def test_a_replaced_file_is_a_changed_source(tmp_path: Path, etag: bool) -> None:
    with serving(tmp_path, etag=etag) as server:
        from_ = source_of(server)
        pinned = from_.stat().validator
        (server.root / "a.bin").write_bytes(os.urandom(200_000))
        os.utime(server.root / "a.bin", (2_000_000_000, 2_000_000_000))

        with pytest.raises(SourceChanged):
            read(from_, ByteRange(0, 1000), pinned)


def test_without_ranges_it_is_read_as_one_stream(tmp_path: Path) -> None:
    with serving(tmp_path, ranges=False) as server:
        from_ = source_of(server)
        stat = from_.stat()

        assert (stat.size_bytes, stat.accepts_ranges) == (200_000, False)
        assert read(from_, ByteRange(0, 200_000), stat.validator) == DATA
        with pytest.raises(InvalidRange):
            read(from_, ByteRange(0, 1000), stat.validator)


def test_missing_and_forbidden_are_kept_apart(tmp_path: Path) -> None:
    with serving(tmp_path, directives="if ($uri ~ secret) { return 403; }") as server:
        with pytest.raises(NotFound):
            source_of(server, "missing.bin").stat()
        with pytest.raises(Forbidden):
            source_of(server, "secret.bin").stat()


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_an_object_is_put_and_verified(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    with serving(tmp_path, put=True) as server:
        to = destination(parse(server.url("up.bin"), "destination"), Profile("p"), Options(), Services())
        upload = to.create_upload(UploadPlan(size, size, 1))
        receipt = to.put_part(upload, Part(1, ByteRange(0, size)), BytesBody(data))
        stat = to.complete_upload(upload, [receipt])

        assert (server.root / "up.bin").read_bytes() == data
    assert (stat.size_bytes, stat.metadata) == (size, {"verified": "size"})
