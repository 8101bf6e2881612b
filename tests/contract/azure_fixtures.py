"""Fresh blobs on the real Azurite, straight and through a proxy; for ``pytest_plugins`` of a test module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.contract.azure_place import Place
from tests.servers.azurite import Azurite
from tests.servers.logging_proxy import LoggingProxy


@pytest.fixture
def azure(azurite: Azurite) -> Place:
    return Place(azurite, f"k/{uuid.uuid4().hex}.bin")


@pytest.fixture
def azure_origin(azurite: Azurite) -> Place:
    """Another blob of the same account."""
    return Place(azurite, f"origin/{uuid.uuid4().hex} ü%&+=?.bin")


@pytest.fixture
def azure_proxy(azurite: Azurite) -> Iterator[LoggingProxy]:
    with LoggingProxy(azurite.origin) as running:
        yield running


@pytest.fixture
def azure_proxied(azure: Place, azure_proxy: LoggingProxy) -> Place:
    """The same place, reached through the proxy."""
    return azure.at(azure_proxy.endpoint)
