"""Loads the Lua moves, all at once: one file per move, each with ``_lib.lua`` put before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

_LIB = "_lib"

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


def load_all() -> dict[str, Move]:
    """Every move in ``lua/``, by name: two dozen small files, a few milliseconds."""
    folder = files("orchestrator") / "lua"
    found = [each for each in folder.iterdir() if each.name.endswith(".lua")]
    texts = {each.name.removesuffix(".lua"): each.read_text("utf-8") for each in found}
    lib = texts.pop(_LIB)
    return {name: _move(name, lib + text) for name, text in texts.items()}


def move(name: str) -> Move:
    """The move in ``lua/NAME.lua``, as the file was when this module was imported."""
    return _MOVES[name]


def _move(name: str, text: str) -> Move:
    return Move(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# With the module, and never later: after an upgrade in place the files on disk are those of another Python code.
_MOVES = load_all()
