"""Redirects followed by hand: few hops, http and https only, and no credential to another host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from providers.errors import ResponseParseError, ResponseStatusError
from providers.reply import Reply
from providers.schemes import redact

REDIRECTS = frozenset({301, 302, 303, 307, 308})
STALE_TARGET = frozenset({401, 403, 404, 410})
"""What a redirect target that has expired answers."""
_REMEMBERED = 1024
_HARMLESS = frozenset(
    {"accept", "accept-encoding", "accept-language", "if-match", "if-unmodified-since", "range", "user-agent"}
)


@dataclass(frozen=True, slots=True)
class RedirectPolicy:
    """How far to follow. ``targets`` remembers where a URL led last (shared by threads), so hops are paid once.

    ``scope`` keeps askers with different credentials apart: a target may be signed for one of them.
    """

    max_hops: int = 10
    targets: dict[str, str] = field(default_factory=dict, repr=False)
    scope: str = ""

    def known(self, url: str) -> str | None:
        return self.targets.get(self._key(url))

    def remember(self, url: str, target: str) -> None:
        while len(self.targets) >= _REMEMBERED:
            self.targets.pop(next(iter(self.targets), ""), None)
        self.targets[self._key(url)] = target

    def forget(self, url: str) -> None:
        self.targets.pop(self._key(url), None)

    def _key(self, url: str) -> str:
        return f"{self.scope} {url}" if self.scope else url


def next_url(url: str, reply: Reply) -> str:
    """Where ``reply`` sends us. Raises ResponseParseError without a usable target, ResponseStatusError if unsafe."""
    try:
        target = urljoin(url, reply.headers["Location"].strip())
        there = urlsplit(target)
        there.port  # noqa: B018  # the property raises on a bad port
    except (KeyError, ValueError):
        raise ResponseParseError(f"{redact(url)}: a redirect without a usable Location", status=reply.status) from None
    if there.scheme not in ("http", "https") or not there.hostname:
        raise ResponseStatusError(f"{redact(url)}: a redirect to something not http or https", status=reply.status)
    if urlsplit(url).scheme == "https" and there.scheme == "http":
        raise ResponseStatusError(f"{redact(url)}: a redirect from https to http is refused", status=reply.status)
    return there._replace(netloc=there.netloc.rpartition("@")[2], fragment="").geturl()


def same_host(url: str, target: str) -> bool:
    """Same name and port, or the upgrade from http to https on their own ports."""
    here, there = urlsplit(url), urlsplit(target)
    if here.hostname != there.hostname:
        return False
    return _port(here) == _port(there) or (_port(here), _port(there)) == (80, 443)


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """What may go to another host: any header but the harmless ones could be a credential."""
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
