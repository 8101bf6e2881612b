"""Loads the Lua moves: one file per move, each with ``_lib.lua`` put before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

Reply = Any
"""What a script answers: an int, bytes, or a list of these."""


@dataclass(frozen=True, slots=True)
class Move:
    """One script. Calls go by digest; the text is sent only when the server does not know it."""

    name: str
    text: str
    digest: str

    def __call__(self, redis: Redis, prefix: str, *args: str | bytes | int | float) -> Reply:
        try:
            return redis.evalsha(self.digest, 1, prefix, *args)
        except NoScriptError:
            return redis.eval(self.text, 1, prefix, *args)

    def many(
        self,
        redis: Redis,
        calls: Sequence[tuple[str, tuple[str | bytes | int | float, ...]]],
        *,
        keep_errors: bool = False,
    ) -> list[Reply]:
        """Run several calls in one round trip; each is (prefix, arguments).

        A call that Redis refuses raises once all have run; with ``keep_errors`` its ResponseError is its reply.
        """

        def send() -> list[Reply]:
            with redis.pipeline(transaction=False) as pipe:
                for prefix, args in calls:
                    pipe.evalsha(self.digest, 1, prefix, *args)
                return pipe.execute(raise_on_error=not keep_errors)

        try:
            replies = send()
            if not any(isinstance(each, NoScriptError) for each in replies):
                return replies
        except NoScriptError:
            pass
        redis.script_load(self.text)
        return send()


@cache
def move(name: str) -> Move:
    """The move in ``lua/NAME.lua``."""
    folder = files("orchestrator") / "lua"
    text = (folder / "_lib.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")
    return Move(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
