"""One account per process for equal settings: all transfers share its clients, connections and learned clock."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from providers.base import Options, Profile, Services
from providers.transport import TransportConfig

A = TypeVar("A")

_KEPT = 32
"""The accounts used last; a fleet of many tenants must not keep them all."""
_FALSE = {"0", "false", "no", "off"}


class Accounts(Generic[A]):
    """``make`` builds an account from its profile and how to reach it. Thread-safe, and built anew after a fork."""

    def __init__(self, make: Callable[[Profile, TransportConfig], A]) -> None:
        self._make = make
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def get(self, profile: Profile, options: Options, services: Services) -> A:
        """Raises what ``make`` raises."""
        config = TransportConfig(
            connect_seconds=services.connect_seconds,
            read_seconds=services.read_seconds,
            minimum_bytes_per_second=services.minimum_bytes_per_second,
            stall_seconds=services.stall_seconds,
            ca_file=profile.get("ca_file") or None,
            proxy=profile.get("proxy") or None,
            ipv6=options.ipv6 and (profile.get("ipv6") or "").lower() not in _FALSE,
            session_factory=services.session_factory,
        )
        key = (tuple(sorted(profile.values.items())), config)
        with self._lock:
            if key not in self._found:
                self._found[key] = self._make(profile, config)
                if len(self._found) > _KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            return self._found[key]

    def _forget(self) -> None:
        self._lock = threading.Lock()  # after a fork: another thread of the parent may have held it
        self._found: OrderedDict[tuple[object, ...], A] = OrderedDict()
