"""A client for the ledger's Redis, and what its failures mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import Settings


def connect(settings: Settings, *, retry_seconds: float | None = None) -> redis.Redis:
    """A client for the ledger, thread-safe, that retries lost connections for about ``redis_retry_seconds``."""
    budget = settings.redis_retry_seconds if retry_seconds is None else retry_seconds
    # Waits of 0.05, 0.1, ... 1, 1, 1 s: the count that fills the budget.
    attempts = 0 if budget <= 0 else 5 + int(budget)
    return redis.Redis.from_url(
        settings.redis,
        decode_responses=False,
        socket_timeout=10,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), attempts),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        protocol=2,
    )


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Redis's own errors become LedgerUnavailable, without the URL and its password."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as exc:
        raise LedgerUnavailable(f"Redis did not answer: {type(exc).__name__}") from None
    except RedisError as exc:
        raise LedgerUnavailable(f"Redis refused a move: {type(exc).__name__}: {str(exc)[:200]}") from exc
