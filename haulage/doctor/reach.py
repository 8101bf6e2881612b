"""Whether a Redis answers; if not, why: name, port, TLS, password and rights are told apart."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis
from redis import exceptions as refused

from haulage.doctor.check import Check, fail, ok
from orchestrator.connection import place_of

_URL = "HAULAGE_REDIS_URL"
_NO_TLS = (
    f"if this Redis has no TLS, write redis:// in {_URL}; "
    "if it wants a client certificate, add ?ssl_certfile=...&ssl_keyfile=..."
)


def reachable(client: redis.Redis, url: str, *, name: str = "redis_reachable") -> Check:
    """One PING. ``url`` is shown without user and password."""
    where = shown(url)
    try:
        client.ping()
    except (redis.RedisError, OSError) as exc:
        message, try_this = _explained(exc, url, where)
        return fail(name, message, try_this)
    return ok(name, f"Redis at {where} answers")


def shown(url: str) -> str:
    """``host:port/database`` or the path of a socket; never user, password or query."""
    path = urlsplit(url).path
    return place_of(url) + (path if path != "/" and not url.startswith("unix://") else "")


def _explained(exc: BaseException, url: str, where: str) -> tuple[str, str]:
    """What is wrong, and what to do. The first match counts, from the most telling cause to the least."""
    secure = url.startswith("rediss://")
    for cause in _causes(exc):
        found = _by_cause(cause, where, secure=secure) or _by_reply(cause, where)
        if found:
            return found
    if "closed" in str(exc).lower() and not secure:
        return f"{where} closed the connection without an answer", f"if it speaks TLS, write rediss:// in {_URL}"
    return f"Redis at {where} failed: {type(exc).__name__}", "look into the log of Redis"


def _by_cause(cause: BaseException, where: str, *, secure: bool) -> tuple[str, str] | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {where} is not trusted: {cause.verify_message}",
                f"add ?ssl_ca_certs=/path/ca.pem to {_URL}, and use the host name that the certificate was made for",
            )
        case ssl.SSLError():
            return f"TLS with {where} failed: {cause.reason or 'no handshake'}", _NO_TLS
        case TimeoutError() if secure and "handshake" in str(cause):
            return f"{where} does not answer the TLS handshake", _NO_TLS
        case socket.gaierror():
            return f"the host name of {where} cannot be resolved", f"look for a typing error in {_URL}, then at DNS"
        case FileNotFoundError():
            return f"there is no socket {where}", f"start Redis, or mend {_URL}"
        case PermissionError():
            return f"this user may not open {where}", "give it the group of the socket (unixsocketperm 770)"
        case ConnectionRefusedError():
            return f"nothing listens at {where}", f"start Redis, or mend host and port in {_URL}"
        case ConnectionResetError() if not secure:
            return f"{where} closed the connection", f"if it speaks TLS, write rediss:// in {_URL}"
        case TimeoutError() | refused.TimeoutError():
            return f"{where} does not answer in time", "look at the firewall between here and Redis, then at its load"
        case OSError() if cause.errno is not None:
            return f"{where} cannot be reached: {cause.strerror}", "look at the network between here and Redis"
    return None


def _by_reply(cause: BaseException, where: str) -> tuple[str, str] | None:
    text = str(cause).lower()
    match cause:
        case refused.NoPermissionError():
            return f"the user may not do that at {where}", "give it the rights in deploy/redis/users.acl"
        case refused.AuthenticationError() if "required" in text:
            return f"{where} wants a password", f"write it into {_URL}: redis://:PASSWORD@host:port/0"
        case refused.AuthenticationError():
            return (
                f"{where} refuses user or password",
                f"compare {_URL} with requirepass or the ACL of Redis; write / ? # @ in it as %2F %3F %23 %40",
            )
        case refused.BusyLoadingError():
            return f"{where} still loads its append-only file", "wait; it answers when it has read everything"
        case refused.RedisError() if "max number of clients" in text:
            return f"{where} has no connection left", "raise maxclients of Redis"
        case refused.ResponseError() if "db index" in text:
            return f"{where}: there is no such database", f"name one that exists at the end of {_URL}, such as /0"
    return None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, the innermost first: there is the reason."""
    chain: list[BaseException] = []
    step: BaseException | None = exc
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    yield from reversed(chain)
