"""Asks whoever may sign: an HTTP callback of the application, or a function installed on the workers.

A callback is a POST of JSON with two headers: ``X-Haulage-Timestamp`` (unix seconds) and ``X-Haulage-Signature``
(``sha256=`` and the hex HMAC-SHA256, under the profile's ``signer_key``, of the timestamp, a dot and the body). It must
be https, or a loopback address, unless the profile's ``signer_hosts`` names the host; redirects are not followed. A
function is an entry point of the group ``haulage.signers``: it takes the same mapping and returns the reply's.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from providers.base import Profile, Services
from providers.errors import InvalidValue, ProviderUnavailable, SignerRefused, SignerUnavailable, TransportError
from providers.plans import Signer
from providers.schemes import redact
from providers.transport import Transport, TransportConfig, transport_for

TIMESTAMP, SIGNATURE = "X-Haulage-Timestamp", "X-Haulage-Signature"
_PAUSES = (0.2, 0.6)
"""Between the tries of one call, in seconds. After them the transfer waits, and that is a try every so often too."""
_PATIENCE_SECONDS = 10.0
"""For an answer. Longer than it takes to sign 100 URLs, shorter than others of the fleet wait for it."""
_REPLY_BYTES = 4 << 20

Asks = Mapping[str, Any]


class SignerCalls:
    """Calls one signer. Thread-safe."""

    def __init__(
        self, signer: Signer, profile: Profile, services: Services, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._signer = signer
        self._profile = profile
        self._sleep = sleep
        self._transport = _transport(profile, services)

    def __call__(self, asks: Asks) -> dict[str, Any]:
        """Raises SignerUnavailable, SignerRefused for a reply that is no JSON object, ProviderUnavailable."""
        reply = self._by_function(self._signer.name, asks) if self._signer.name else self._by_callback(asks)
        if not isinstance(reply, dict):
            raise SignerRefused("the signer's reply is no JSON object")
        return reply

    def _by_function(self, name: str, asks: Asks) -> Any:
        sign = _functions().get(name)
        if sign is None:
            raise ProviderUnavailable(f"no package on this worker has a signer {name!r} (group haulage.signers)")
        try:
            return sign(dict(asks))
        except Exception as exc:  # its text may hold a URL
            raise SignerUnavailable(f"the signer {name!r} failed: {type(exc).__name__}") from None

    def _by_callback(self, asks: Asks) -> Any:
        url, key = self._signer.url or "", self._profile.get("signer_key")
        if not key:
            raise ProviderUnavailable(f"profile {self._profile.name!r} has no signer_key to sign requests with")
        check_callback(url, _hosts(self._profile))
        body = json.dumps(asks, separators=(",", ":")).encode()
        until = time.monotonic() + _PATIENCE_SECONDS
        for pause in (*_PAUSES, None):
            try:
                return self._post(url, key, body)
            except SignerUnavailable:
                if pause is None or time.monotonic() > until:
                    raise
                self._sleep(pause)
        return None

    def _post(self, url: str, key: str, body: bytes) -> Any:
        stamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", TIMESTAMP: stamp, SIGNATURE: signature(key, stamp, body)}
        try:
            reply = self._transport.request("POST", url, headers=headers, data=body, max_bytes=_REPLY_BYTES)
        except TransportError as exc:
            raise SignerUnavailable(f"the signer does not answer: {exc}") from None
        if not reply.ok:
            raise SignerUnavailable(f"the signer {redact(url)} answers {reply.status}", status=reply.status)
        try:
            return json.loads(reply.body)
        except ValueError:
            raise SignerRefused(f"the reply of the signer {redact(url)} is no JSON") from None


def signature(key: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Haulage-Signature``; applications compare it with ``hmac.compare_digest``."""
    return "sha256=" + hmac.new(key.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def check_callback(url: str, allowed: frozenset[str]) -> None:
    """Whoever submits names this URL, so it may not reach into the workers' network. Raises InvalidValue."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host in allowed:
        return
    needed = "https to a public address, or loopback; others are named in signer_hosts of the profile"
    addresses = _addresses(host, parts.port or (443 if parts.scheme == "https" else 80))
    if not all(each.is_loopback or (parts.scheme == "https" and each.is_global) for each in addresses):
        raise InvalidValue("signer.url", redact(url), needed)


def _addresses(host: str, port: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise SignerUnavailable(f"the name of the signer's host cannot be resolved: {host}") from None
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    return [getattr(each, "ipv4_mapped", None) or each for each in addresses]


def _hosts(profile: Profile) -> frozenset[str]:
    return frozenset(each.strip().lower() for each in (profile.get("signer_hosts") or "").split(",") if each.strip())


@cache
def _functions() -> Mapping[str, Callable[[dict[str, Any]], Any]]:
    return {each.name: each.load() for each in entry_points(group="haulage.signers")}


def _transport(profile: Profile, services: Services) -> Transport:
    return transport_for(
        TransportConfig(
            connect_seconds=services.connect_seconds,
            read_seconds=min(services.read_seconds, _PATIENCE_SECONDS),
            ca_file=profile.get("ca_file"),
            proxy=profile.get("proxy"),
            user_agent="haulage-signer",
        )
    )
