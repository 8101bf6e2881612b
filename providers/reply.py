"""A small HTTP answer, held in memory, and what its status means."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from requests.structures import CaseInsensitiveDict

from providers.errors import (
    Forbidden,
    InvalidRange,
    NotFound,
    ProviderError,
    ResponseStatusError,
    ServerFault,
    SourceChanged,
    Throttled,
)

_BY_STATUS: dict[int, type[ProviderError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Throttled,
    410: NotFound,
    412: SourceChanged,
    416: InvalidRange,
    425: Throttled,
    429: Throttled,
}
BY_STORE_STATUS: Mapping[int, type[ProviderError]] = {
    **{status: kind for status, kind in _BY_STATUS.items() if status != 412},
    501: ResponseStatusError,
    503: Throttled,
}
"""Of an object store that names no code it is known by. What a 412 means depends on whose condition it was."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body was read, up to a limit. Nothing but the status shows: the rest may hold secrets."""

    status: int
    headers: Mapping[str, str] = field(default_factory=CaseInsensitiveDict, repr=False)
    """Names in any case."""
    body: bytes = field(default=b"", repr=False)
    url: str = field(default="", repr=False)
    """Where the answer came from, after redirects."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def status_error(reply: Reply, *, what: str, now: float | None = None) -> ProviderError:
    """The error that a failing status stands for. ``what``: what was asked of whom, without a secret."""
    wait = retry_after_seconds(reply.headers, now)
    kind = _BY_STATUS.get(reply.status)
    if kind is None and reply.status >= 500:
        kind = Throttled if reply.status == 503 and wait is not None else ServerFault
    kind = kind or ResponseStatusError
    return kind(f"{what}: status {reply.status}", status=reply.status, retry_after_seconds=wait)


def retry_after_seconds(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """``Retry-After`` as seconds from now, never below 0, from either form (seconds, HTTP date); the caller caps it.

    A date is measured against the answer's own ``Date``, so that clocks need not agree; without one against
    ``now``, by default this machine's clock.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    until = _unix_time(text)
    if until is None:
        return None
    since = _unix_time(headers.get("Date") or "")
    if since is None:
        since = time.time() if now is None else now
    return max(0.0, until - since)


def _unix_time(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
