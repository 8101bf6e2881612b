"""Servers that tests share: each starts when first asked for and lives as long as the pytest process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.s3_server import S3Server


@pytest.fixture(scope="session")
def near_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("near-s3")) as server:
        server.make_bucket("near")
        yield server


@pytest.fixture(scope="session")
def far_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A second service, with credentials of its own."""
    with S3Server(tmp_path_factory.mktemp("far-s3")) as server:
        server.make_bucket("far")
        yield server
