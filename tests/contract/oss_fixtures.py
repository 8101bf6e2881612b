"""Fresh keys on the OSS stand-in, straight and through a proxy; for ``pytest_plugins`` of a test module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.contract.oss_place import BUCKET, Place
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.oss_server import OssServer


@pytest.fixture
def oss(oss_server: OssServer) -> Place:
    return Place(oss_server, f"k/{uuid.uuid4().hex}.bin")


@pytest.fixture
def oss_origin(oss_server: OssServer) -> Place:
    """Another object of the same account."""
    return Place(oss_server, f"origin/{uuid.uuid4().hex} ü%&+=?.bin")


@pytest.fixture
def own_oss() -> Iterator[OssServer]:
    """One whose clock and credentials a test may change."""
    with OssServer() as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture
def oss_proxy(oss_server: OssServer) -> Iterator[LoggingProxy]:
    with LoggingProxy(oss_server.endpoint) as running:
        yield running


@pytest.fixture
def oss_proxied(oss: Place, oss_proxy: LoggingProxy) -> Place:
    """The same place, reached through the proxy."""
    return oss.by(endpoint=oss_proxy.endpoint)
