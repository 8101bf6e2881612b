"""A ``requests.Session`` of the application's own, and what of it a transport takes over.

Taken: headers, auth, cookies, proxies, ``trust_env``, trust (``verify``, ``cert``) and mounted adapters. The session
itself sends nothing: it would follow redirects with its headers, keep cookies, read .netrc, and read bodies whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict

from providers.errors import InvalidValue

SessionFactory = Callable[[], requests.Session]

_FIELD = "session_factory"
_ALLOWED = "a function that returns a requests.Session"
_RESERVED = frozenset(
    {"content-encoding", "content-length", "content-range", "expect", "host", "range", "te", "trailer", "upgrade"}
    | {"transfer-encoding", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"}
)
"""Headers that a request sets itself: another value would break the check of its reply, or the framing."""
_NEVER = frozenset({"accept-encoding", "connection"})


@dataclass(frozen=True, slots=True)
class Injected:
    """What was taken from a session. Values may be secrets: they never show in a repr."""

    headers: Mapping[str, str] = field(repr=False)
    """Without those that every session has by default."""
    auth: Any = field(repr=False)
    cookies: Any = field(repr=False)
    proxies: Mapping[str, str] = field(repr=False)
    trust_env: bool
    ca_file: str | None
    client_cert: str | tuple[str, str] | None = field(repr=False)
    mounted: tuple[tuple[str, BaseAdapter], ...] = field(repr=False)
    """Adapters of the application's own by the prefix of a URL, longest first."""

    def adapter(self, url: str) -> BaseAdapter | None:
        """The application's adapter for this URL, if it mounted one."""
        for prefix, adapter in self.mounted:
            if url.lower().startswith(prefix.lower()):
                # The plain adapter of every session stands for "ours", also where it hides a shorter prefix.
                return None if type(adapter) is HTTPAdapter else adapter
        return None


def injected(factory: SessionFactory) -> Injected:
    """Ask the factory for a session and look at it. Raises InvalidValue for what could not be held with it."""
    try:
        session = factory()
    except Exception as exc:  # its text is the application's, and may hold a secret
        raise InvalidValue(_FIELD, f"a function that raised {type(exc).__name__}", _ALLOWED) from None
    if not isinstance(session, requests.Session):
        raise InvalidValue(_FIELD, f"a {type(session).__name__}", _ALLOWED)
    usual = requests.Session().headers
    headers = CaseInsensitiveDict(
        {
            name: _text(value)
            for name, value in session.headers.items()
            if value is not None and name.lower() not in _NEVER and usual.get(name) != value
        }
    )
    for name in headers:
        if name.lower() in _RESERVED:
            raise InvalidValue(_FIELD, f"a session with the header {name}", "no header that each request sets itself")
    if session.verify is False:
        raise InvalidValue(_FIELD, "a session with verify=False", "verify=True, or the path of a CA file")
    if session.params:
        raise InvalidValue(_FIELD, "a session with params", "headers instead: more query would break a signed URL")
    if any(session.hooks.values()):
        raise InvalidValue(_FIELD, "a session with hooks", "an adapter instead: hooks could read a body away")
    return Injected(
        headers=headers,
        auth=session.auth,
        cookies=session.cookies,
        proxies={name: str(url) for name, url in session.proxies.items() if url},
        trust_env=session.trust_env,
        ca_file=session.verify if isinstance(session.verify, str) else None,
        client_cert=session.cert,
        mounted=tuple(session.adapters.items()),  # requests keeps the longest prefix first
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
