"""Stands between those who send Celery messages and those who receive them: loses, doubles, delays and counts them."""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.e2e.fleet import Fleet

_OUTBOX = 5
"""Database of what was sent; database 0 is where workers listen."""
WRITE_URL = "CELERY_BROKER_WRITE_URL"


@dataclass(frozen=True, slots=True)
class Letter:
    """One message. ``copy`` counts, from 1, how often a task with these arguments was sent."""

    task: str
    args: tuple[Any, ...]
    copy: int
    queue: str
    raw: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """prepare, part, complete or abort."""
        return self.task.removeprefix("haulage.")


Policy = Callable[[Letter], Sequence[float]]
"""Seconds until each copy is delivered; no copy: the message is lost."""


def deliver(_letter: Letter) -> Sequence[float]:
    return (0.0,)


class Postman:
    """``fleet.env`` must have ``WRITE_URL`` from ``outbox`` before workers start, and this process too."""

    def __init__(self, fleet: Fleet) -> None:
        self.policy: Policy = deliver
        self.rewrite: Callable[[dict[str, Any]], None] = lambda _message: None
        """Changes the JSON of a message, ``body`` decoded, on its way."""
        self.letters: list[Letter] = []
        self._fleet = fleet
        self._copies: Counter[tuple[str, tuple[Any, ...]]] = Counter()
        self._bag: list[tuple[float, int, Letter]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._walk, name="postman")

    @staticmethod
    def outbox(fleet: Fleet) -> str:
        return fleet.redis.database(_OUTBOX)

    @contextmanager
    def obeying(self, policy: Policy) -> Iterator[None]:
        """Deliver as ``policy`` says; afterwards as a postman should."""
        self.policy = policy
        try:
            yield
        finally:
            self.policy = deliver

    def sent(self, transfer_id: str, kind: str = "") -> list[Letter]:
        """What was sent for a transfer, in order."""
        return [each for each in list(self.letters) if each.args[0] == transfer_id and kind in ("", each.kind)]

    def hurry(self) -> None:
        """Deliver at once what is held back."""
        with self._lock:
            self._bag = [(0.0, number, letter) for _, number, letter in self._bag]

    @property
    def empty_handed(self) -> bool:
        return not self._bag

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _walk(self) -> None:
        outbox, inbox = self._fleet.redis.client(_OUTBOX), self._fleet.redis.client()
        host = self._fleet.settings.host
        queues = [f"haulage.{each}" for each in ("control", "data", "express", f"host.{host}", f"host.{host}.control")]
        while not self._end.is_set():
            found: Any = outbox.brpop(queues, timeout=0.02)
            with self._lock:
                if found:
                    letter = self._read(found[0].decode(), found[1])
                    for delay in self.policy(letter):
                        heapq.heappush(self._bag, (time.monotonic() + delay, next(self._numbers), letter))
                while self._bag and self._bag[0][0] <= time.monotonic():
                    letter = self._bag[0][2]
                    inbox.lpush(letter.queue, letter.raw)
                    heapq.heappop(self._bag)

    def _read(self, queue: str, raw: bytes) -> Letter:
        message = json.loads(raw)
        message["body"] = json.loads(base64.b64decode(message["body"]))
        task, args = message["headers"]["task"], tuple(message["body"][0])
        self._copies[task, args] += 1
        self.rewrite(message)
        message["body"] = base64.b64encode(json.dumps(message["body"]).encode()).decode()
        letter = Letter(task, args, self._copies[task, args], queue, json.dumps(message).encode())
        self.letters.append(letter)
        return letter
