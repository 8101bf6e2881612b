"""Fixtures over one calm fleet that all tests of a pytest process share; for ``pytest_plugins`` of a test module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet
from tests.e2e.shared import STORE, CalmFleet, Site
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.range_server import RangeServer


@pytest.fixture(scope="session")
def calm_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CalmFleet]:
    quick: dict[str, object] = {"profile_broken__ca_file": "/nowhere/ca.pem"}
    quick |= {"read_seconds": 2, "stall_seconds": 2, "connect_seconds": 2}
    quick |= {"minimum_bytes_per_second": 1, "log_level": "DEBUG"}
    with CalmFleet(tmp_path_factory.mktemp("calm"), **quick) as fleet:
        fleet.worker("calm", threads=8)
        yield fleet


@pytest.fixture(scope="session")
def proxied(calm_fleet: CalmFleet) -> Iterator[LoggingProxy]:
    with LoggingProxy(calm_fleet.store.server.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def proxied_fleet(
    calm_fleet: CalmFleet, proxied: LoggingProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet whose store is behind the proxy."""
    values: dict[str, Any] = {f"profile_{STORE}__{key}": text for key, text in calm_fleet.store.server.profile.items()}
    values[f"profile_{STORE}__endpoint"] = proxied.endpoint
    with Fleet(tmp_path_factory.mktemp("proxied"), **values) as fleet:
        fleet.worker("proxied")
        yield fleet


@pytest.fixture
def web() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, calm_fleet: CalmFleet, web: RangeServer) -> Site:
    return Site(tmp_path, calm_fleet, web)
