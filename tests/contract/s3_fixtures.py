"""Fresh keys on the real S3 server, straight and through a proxy; for ``pytest_plugins`` of a test module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.contract.s3_place import Place
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.s3_server import S3Server


@pytest.fixture
def s3(s3_server: S3Server) -> Place:
    return Place(s3_server, f"k/{uuid.uuid4().hex}.bin")


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[LoggingProxy]:
    with LoggingProxy(s3_server.endpoint) as running:
        yield running


@pytest.fixture
def s3_proxied(s3_server: S3Server, s3_proxy: LoggingProxy, s3: Place) -> Place:
    """The same place, reached through the proxy."""
    return Place(s3_server, s3.key, endpoint=s3_proxy.endpoint)
