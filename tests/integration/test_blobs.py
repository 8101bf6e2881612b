"""Strings behind ``mem:`` URLs."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.blobs import RedisBlobs
from orchestrator.errors import LedgerUnavailable
from tests.servers.process import free_port

HOUR = 3600


@pytest.fixture
def blobs(client: redis.Redis) -> RedisBlobs:
    return RedisBlobs(client, HOUR)


def test_what_is_not_there_has_no_size_and_an_empty_string_has_size_zero(blobs: RedisBlobs) -> None:
    blobs.write("empty", 0, b"")

    assert blobs.size("nothing") is None
    assert blobs.size("empty") == 0
    assert blobs.read("empty", 0, 10) == b""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200), st.randoms(use_true_random=False), st.integers(1, 50))
def test_parts_written_in_any_order_are_read_as_one(blobs: RedisBlobs, data: bytes, order: object, part: int) -> None:
    starts = list(range(0, len(data), part))
    order.shuffle(starts)  # type: ignore[attr-defined]
    blobs.remove("x")

    for start in starts:
        blobs.write("x", start, data[start : start + part])

    assert blobs.size("x") == len(data)
    assert blobs.read("x", 0, len(data) + 9) == data
    assert blobs.read("x", part, part) == b""
    assert blobs.read("x", 1, 3) == data[1:3]


def test_a_rename_publishes_all_at_once_and_only_where_it_may(blobs: RedisBlobs) -> None:
    blobs.write("temp", 0, b"new")
    blobs.write("name", 0, b"old")

    assert not blobs.rename("temp", "name", replace=False)
    assert blobs.read("name", 0, 3) == b"old"
    assert blobs.rename("temp", "name", replace=True)
    assert blobs.read("name", 0, 3) == b"new"
    assert blobs.size("temp") is None
    assert not blobs.rename("temp", "name", replace=True)


def test_strings_do_not_stay_for_ever(blobs: RedisBlobs, client: redis.Redis) -> None:
    blobs.write("temp", 0, b"new")
    assert 0 < client.ttl("hl:{mem}:temp") <= HOUR

    blobs.rename("temp", "name", replace=False)
    assert 0 < client.ttl("hl:{mem}:name") <= HOUR
    blobs.remove("name")
    assert client.keys("*") == []


def test_a_server_that_is_away_is_an_error_of_the_ledger() -> None:
    with redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as nobody, pytest.raises(LedgerUnavailable):
        RedisBlobs(nobody, HOUR).size("x")
