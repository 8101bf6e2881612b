"""The strings behind ``mem:`` URLs, in Redis. Providers see only the BlobStore Protocol."""

from __future__ import annotations

from typing import Any

import redis

from orchestrator.connection import ledger_errors

_PREFIX = "hl:{mem}:"
_RENAME = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[1] == '0' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"""


class RedisBlobs:
    """Strings that live as long as ended transfers do; read and written by range, never whole."""

    def __init__(self, client: redis.Redis, retention_seconds: int) -> None:
        self._redis = client
        self._retention_ms = retention_seconds * 1000

    def size(self, name: str) -> int | None:
        """Length in bytes, or None when there is no such string. An empty one is stored as an empty string."""
        with ledger_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.exists(_PREFIX + name)
            pipe.strlen(_PREFIX + name)
            exists, length = pipe.execute()
        return int(length) if exists else None

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)``, fewer at the end."""
        if stop <= start:
            return b""
        with ledger_errors():
            data: Any = self._redis.getrange(_PREFIX + name, start, stop - 1)
        return bytes(data)

    def write(self, name: str, start: int, data: bytes) -> None:
        """Write at an offset; what lies before it is zeros until it is written too."""
        with ledger_errors(), self._redis.pipeline(transaction=False) as pipe:
            if data:
                pipe.setrange(_PREFIX + name, start, data)
            else:
                pipe.append(_PREFIX + name, b"")
            pipe.pexpire(_PREFIX + name, self._retention_ms)
            pipe.execute()

    def rename(self, name: str, new_name: str, *, replace: bool) -> bool:
        """Publish, all at once. False when ``new_name`` exists and may not be replaced, or ``name`` is gone."""
        with ledger_errors():
            reply = self._redis.eval(_RENAME, 2, _PREFIX + name, _PREFIX + new_name, int(replace), self._retention_ms)
        return bool(reply)

    def remove(self, name: str) -> None:
        with ledger_errors():
            self._redis.unlink(_PREFIX + name)
