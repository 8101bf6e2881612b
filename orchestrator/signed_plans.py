"""Presigned plans of transfers, in Redis: the only place where their signed URLs lie. Providers see a Protocol.

One hash per transfer, ``p:<id>``: the plan's heads, its pages of signed parts, and nothing else. It lives while its
transfer may still need it. With HAULAGE_SECRET_KEY set, each text is encrypted (AES-256-GCM) and bound to its place.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.connection import ledger_errors
from orchestrator.errors import InvalidSpec
from orchestrator.settings import Settings
from providers.errors import ProviderUnavailable

if TYPE_CHECKING:  # it imports Redis
    from orchestrator.ledger import Ledger

_SEALED = "aes1:"
_NONCE_BYTES = 12
_UNCLAIMED_MS = 3_600_000
"""What a submit wrote just before it died goes after an hour; the move ``submit`` makes it stay."""
_LOCK_MS = 15_000
_LOCK_WAIT_SECONDS = 20.0
_LOOK_SECONDS = 0.05
_WRITTEN_AT_ONCE = 100
_WRITE_IF_THERE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class LedgerPlans:
    """Reads, writes and locks the texts of a transfer's plan. Thread-safe."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seal = Seal(ledger.settings)

    def keep(self, transfer_id: str, texts: Mapping[str, str], *, for_good: bool = False) -> None:
        """Before the transfer is submitted: whoever prepares it finds its plan. ``for_good``: it is there already."""
        key = self._key(transfer_id)
        with ledger_errors(), self._ledger.redis.pipeline(transaction=True) as pipe:
            for name, text in self._sealed(transfer_id, texts).items():
                pipe.hset(key, name, text)
            if not for_good:
                pipe.pexpire(key, _UNCLAIMED_MS)
            pipe.execute()

    def drop(self, transfer_id: str) -> None:
        """The transfer was not taken."""
        with ledger_errors():
            self._ledger.redis.unlink(self._key(transfer_id))

    def read(self, transfer_id: str, names: Sequence[str]) -> list[str | None]:
        """Raises ProviderUnavailable for what this process has no key for."""
        with ledger_errors():
            found: Any = self._ledger.redis.hmget(self._key(transfer_id), list(names))
        return [
            None if text is None else self._seal.open(text.decode(), _place(transfer_id, name))
            for name, text in zip(names, found, strict=True)
        ]

    def write(self, transfer_id: str, texts: Mapping[str, str]) -> bool:
        """False when the plan is gone: nothing was written."""
        rows = list(self._sealed(transfer_id, texts).items())
        done: Any = False
        for start in range(0, len(rows), _WRITTEN_AT_ONCE):
            flat = [text for pair in rows[start : start + _WRITTEN_AT_ONCE] for text in pair]
            with ledger_errors():
                done = self._ledger.redis.eval(_WRITE_IF_THERE, 1, self._key(transfer_id), *flat)
        return bool(done)

    @contextmanager
    def lock(self, transfer_id: str, name: str) -> Iterator[bool]:
        """One holder at a time in the whole fleet; one that died loses it after 15 s. False: 20 s were in vain."""
        key, token = f"{self._key(transfer_id)}:lock:{name}", secrets.token_hex(8)
        until = time.monotonic() + _LOCK_WAIT_SECONDS
        while not (is_mine := self._try_lock(key, token)) and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        try:
            yield is_mine
        finally:
            if is_mine:
                with ledger_errors():
                    self._ledger.redis.eval(_UNLOCK, 1, key, token)

    def _try_lock(self, key: str, token: str) -> bool:
        with ledger_errors():
            return bool(self._ledger.redis.set(key, token, nx=True, px=_LOCK_MS))

    def _sealed(self, transfer_id: str, texts: Mapping[str, str]) -> dict[str, str]:
        return {name: self._seal.close(text, _place(transfer_id, name)) for name, text in texts.items()}

    def _key(self, transfer_id: str) -> str:
        return f"{self._ledger.prefix(transfer_id)}p:{transfer_id}"


class Seal:
    """Encrypts texts if there is a key, and decrypts what is encrypted."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.secret_key
        self._key = hashlib.sha256(secret.get_secret_value().encode()).digest() if secret else None

    def close(self, text: str, place: str) -> str:
        """Raises InvalidSpec where a key is set and the package ``cryptography`` is missing."""
        if self._key is None:
            return text
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _cipher(self._key).encrypt(nonce, text.encode(), place.encode())
        return _SEALED + base64.b64encode(nonce + sealed).decode()

    def open(self, text: str, place: str) -> str:
        """Raises ProviderUnavailable without the key it was encrypted with."""
        if not text.startswith(_SEALED):
            return text
        if self._key is None:
            raise ProviderUnavailable("the plan is encrypted, and this worker has no HAULAGE_SECRET_KEY")
        raw = base64.b64decode(text.removeprefix(_SEALED))
        try:
            cipher = _cipher(self._key)
        except InvalidSpec as exc:
            raise ProviderUnavailable(str(exc)) from None
        try:
            plain: bytes = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode())
        except Exception:  # InvalidTag; nothing else is to be told
            raise ProviderUnavailable("the plan was encrypted with another HAULAGE_SECRET_KEY") from None
        return plain.decode()


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        allowed = "a key only where cryptography is installed: pip install 'haulage[encryption]'"
        raise InvalidSpec("HAULAGE_SECRET_KEY", "(hidden)", allowed) from None
    return AESGCM(key)


def _place(transfer_id: str, name: str) -> str:
    return f"{transfer_id}\0{name}"
