"""One Valkey per test process, emptied for each test, and a ledger on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from orchestrator.connection import connect
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings, load_settings
from tests.integration.ledger_world import World
from tests.servers.valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey"), appendonly=False) as server:
        yield server


@pytest.fixture
def settings(shared_valkey: Valkey) -> Settings:
    return load_settings(redis_url=shared_valkey.url, host="here", redis_retry_seconds=0)


@pytest.fixture
def client(shared_valkey: Valkey) -> Iterator[redis.Redis]:
    """Looks at the keys directly. The server is empty."""
    with redis.Redis.from_url(shared_valkey.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def ledger(client: redis.Redis, settings: Settings) -> Iterator[Ledger]:
    with connect(settings) as own:
        yield Ledger(own, settings)


@pytest.fixture
def world(client: redis.Redis, ledger: Ledger) -> World:
    return World(client, ledger)
