"""A client for the ledger's Redis, and what its failures mean."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, MaxConnectionsError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import Settings

_DEFAULT_PORT = 6379
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (TimeoutError, "timed out"),
    (RedisTimeoutError, "timed out"),
    (socket.gaierror, "no such host"),
    (FileNotFoundError, "no such socket"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionResetError, "it closed the connection"),
    (BrokenPipeError, "it closed the connection"),
)
"""The first that fits is said."""


def connect(settings: Settings, *, retry_seconds: float | None = None, answer_seconds: float = 10.0) -> redis.Redis:
    """A client for the ledger, thread-safe, that retries lost connections for about ``redis_retry_seconds``.

    ``answer_seconds``: how long one try waits for the server.
    """
    budget = settings.redis_retry_seconds if retry_seconds is None else retry_seconds
    # Waits of 0.05, 0.1, ... 1, 1, 1 s: the count that fills the budget.
    attempts = 0 if budget <= 0 else 5 + int(budget)
    # A Unix socket knows neither a slow start nor keep-alive packets.
    tcp: dict[str, Any] = {"socket_connect_timeout": min(5.0, answer_seconds), "socket_keepalive": True}
    return redis.Redis.from_url(
        settings.redis,
        decode_responses=False,
        socket_timeout=answer_seconds,
        **({} if settings.redis.startswith("unix://") else tcp),
        health_check_interval=15,
        retry=_NamingRetry(place_of(settings.redis), attempts),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        protocol=2,
    )


def connect_broker(
    settings: Settings, *, retry_seconds: float | None = None, answer_seconds: float = 10.0
) -> redis.Redis:
    """The same for the Redis of Celery's queues, which may be another one."""
    there = settings.model_copy(update={"redis_url": settings.broker_url or settings.redis_url})
    return connect(there, retry_seconds=retry_seconds, answer_seconds=answer_seconds)


def hang_up(client: redis.Redis) -> None:
    """Give the connections back: idle ones now, one that another thread is using when its call has its answer.

    ``client.close`` would cut those too: the call that is under way then fails in any way, with a TypeError as well.
    """
    pool = client.connection_pool
    pool.disconnect(inuse_connections=False)
    pool.reset()  # forgets those in use: dropped by their call, they close


def broker_place(settings: Settings) -> str:
    """``place_of`` the Redis of Celery's queues."""
    return place_of((settings.broker_url or settings.redis_url).get_secret_value())


def place_of(url: str) -> str:
    """``host:port`` or the socket's path: what a person needs to find a server, without its password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or _DEFAULT_PORT}"


class _NamingRetry(Retry):
    """Retries as its parent does, and notes on the last error which server it was: redis-py does not always say."""

    def __init__(self, place: str, attempts: int) -> None:
        super().__init__(ExponentialBackoff(cap=1.0, base=0.05), attempts)
        self._place = place

    def call_with_retry(
        self,
        do: Any,
        fail: Any,
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        def may_help(exc: Exception) -> bool:
            # redis-py calls a wrong password a connection error: asking again with it only makes the caller wait.
            return not isinstance(exc, AuthenticationError) and (is_retryable is None or is_retryable(exc))

        try:
            return super().call_with_retry(do, fail, may_help, with_failure_count)
        except (RedisConnectionError, RedisTimeoutError) as exc:
            if not hasattr(exc, "__notes__"):  # the outer of two nested calls passes here too
                exc.add_note(self._place)
            raise


@contextmanager
def ledger_errors(place: str = "") -> Iterator[None]:
    """Redis's own errors become LedgerUnavailable, which names the server without its URL and password.

    ``place`` is for a client that was not made by ``connect``, whose errors do not say it.
    """
    try:
        yield
    except AuthenticationError as exc:
        raise LedgerUnavailable(f"{_server(exc, place)} refused the user name or password") from None
    except (RedisConnectionError, RedisTimeoutError) as exc:
        raise LedgerUnavailable(f"{_server(exc, place)} did not answer: {_what_happened(exc)}") from None
    except RedisError as exc:
        raise LedgerUnavailable(refusal(exc)) from exc


def _what_happened(exc: BaseException) -> str:
    """In words, from the system's error below redis-py's: its own text may hold what was asked, so it is not shown."""
    if isinstance(exc, BusyLoadingError):
        return "it is still loading its data"
    if isinstance(exc, MaxConnectionsError):
        return "all connections of this process are in use"
    cause: BaseException | None = exc
    while cause is not None:
        for kind, words in _WORDS:
            if isinstance(cause, kind):
                return words
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    # Without an error of the system below it, the other side has ended the conversation.
    return "it closed the connection" if "closed by server" in str(exc) else type(exc).__name__


def refusal(exc: Exception) -> str:
    """What Redis said to a move that it does not run, such as a full memory."""
    return f"Redis refused a move: {type(exc).__name__}: {str(exc)[:200]}"


def _server(exc: Exception, place: str) -> str:
    named = place or next(iter(getattr(exc, "__notes__", ())), "")
    return f"Redis at {named}" if named else "Redis"
