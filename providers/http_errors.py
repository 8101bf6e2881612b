"""From what requests, urllib3, http.client and the system raise to our error tree, once.

Texts of requests and urllib3 name the URL with its signed query, so they are never carried over, nor chained.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import requests.exceptions as rq
import urllib3.exceptions as u3

from providers.errors import CertificateRefused, InvalidValue, Stalled, TransportError
from providers.schemes import redact

_BAD_INPUT = (
    rq.InvalidURL,
    rq.MissingSchema,
    rq.InvalidSchema,
    rq.InvalidHeader,
    u3.LocationParseError,
    http.client.InvalidURL,
    u3.ProxySchemeUnsupported,
)
_FAULTS = (rq.RequestException, u3.HTTPError, http.client.HTTPException, OSError)


@contextmanager
def transport_errors(url: str, *, in_body: bool = False) -> Iterator[None]:
    """Map what the network does. ``in_body``: bytes were flowing, so a time-out means they stopped."""
    try:
        yield
    except _BAD_INPUT as exc:
        raise InvalidValue("request", redact(url), f"a valid URL and valid headers ({type(exc).__name__})") from None
    except _FAULTS as exc:
        for each in _causes(exc):
            if isinstance(each, ssl.SSLCertVerificationError):
                why = getattr(each, "verify_message", "")
                raise CertificateRefused(f"{redact(url)}: certificate refused: {why}") from None
        kind = Stalled if in_body and _timed_out(exc) else TransportError
        fault = kind(f"{redact(url)}: {_reason(exc)}")
        if any(isinstance(each, u3.NewConnectionError | u3.ConnectTimeoutError) for each in _causes(exc)):
            fault.sent = False
        raise fault from None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The exception and all it wraps, outermost first: requests and urllib3 wrap by argument and by ``reason``."""
    seen: list[BaseException] = [exc]
    for each in seen:
        yield each
        inner = [getattr(each, "reason", None), each.__cause__, *each.args]
        seen += [more for more in inner if isinstance(more, BaseException) and more not in seen]


def _timed_out(exc: BaseException) -> bool:
    return any(isinstance(each, TimeoutError | u3.TimeoutError | rq.Timeout) for each in _causes(exc))


def _reason(exc: BaseException) -> str:
    """One phrase that cannot hold a URL: class names, and the system's words for its own errors."""
    *_, innermost = _causes(exc)
    words = innermost.strerror if isinstance(innermost, OSError) and innermost.errno else None
    return f"{type(innermost).__name__}: {words}" if words else type(innermost).__name__
