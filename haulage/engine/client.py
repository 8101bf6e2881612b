"""The client's side of the one-machine engine: attach to it, look at it, stop it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from haulage.engine.folders import Place, place_of
from haulage.engine.identity import version
from haulage.engine.lock import is_held, read_holder
from haulage.engine.notes import last_line
from haulage.engine.start import Starter, Wish, wish_of
from haulage.engine.wire import LONGEST_BYTES, Lines, Message, connect_to, encode, read_message
from orchestrator.errors import RuntimeFailed
from orchestrator.settings import Settings

ATTACH_SECONDS = 20.0
_STOP_SECONDS = 45.0
_POLL_SECONDS = 0.02
_REVIVALS = 3


def wants_engine(settings: Settings) -> bool:
    """Whether no Redis was named by argument, environment or file: then this machine's engine is meant."""
    return "redis_url" not in settings.model_fields_set


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What a running engine says of itself. ``lifelines`` are the clients attached; times are unix seconds."""

    pid: int
    state: str
    version: str
    redis_url: str
    host: str
    valkey: str
    valkey_pid: int | None
    worker_pids: list[int]
    lifelines: int
    started_at: float
    folder: str
    log_file: str


class Engine:
    """A lifeline to the engine: it stays at least as long as this is open.

    If the engine is killed, it is started again, and what was live goes on; not if somebody stopped it.
    """

    def __init__(self, settings: Settings, place: Place, line: _Line) -> None:
        self._given = settings
        self._place = place
        self._line = line
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._closed = threading.Event()
        self.settings = _settings_for(settings, line.status)
        threading.Thread(target=self._watch, name="haulage-lifeline", daemon=True).start()

    @property
    def folder(self) -> Path:
        return self._place.folder

    @property
    def log_file(self) -> Path:
        return self._place.log

    @property
    def pid(self) -> int:
        """Of the engine's process."""
        return self._line.status.pid

    @property
    def older(self) -> list[str]:
        """Names of settings and credentials that the engine was started with and that are others here."""
        return self._line.older

    def keep(self, transfer_id: str) -> None:
        """The engine stays until this transfer has ended, also when nobody is attached any more."""
        from haulage.engine.keeping import keep

        keep(self.settings, transfer_id)

    def close(self) -> None:
        """Let go: the engine leaves some time after the last one did."""
        with self._lock:
            self._closed.set()
            self._line.close(end_for_all=self._owner == os.getpid())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self) -> None:
        """Start the engine again when it went without a word."""
        while self._line.wait_for_end() and not self._closed.is_set():
            for attempt in range(_REVIVALS):
                if self._closed.wait(2.0 * attempt):
                    return
                with contextlib.suppress(RuntimeFailed):
                    line = _attach(self._given, self._place, ATTACH_SECONDS)
                    break
            else:
                return  # the next call of the client says that Redis is away
            with self._lock:
                self._line.close(end_for_all=True)
                self._line = line
                if self._closed.is_set():
                    line.close(end_for_all=True)


class _Line:
    """One held connection, and what the engine said when it was made."""

    def __init__(self, sock: socket.socket, lines: Lines, status: EngineStatus, older: list[str]) -> None:
        self._sock = sock
        self._lines = lines
        self.status = status
        self.older = older
        sock.settimeout(None)

    def wait_for_end(self) -> bool:
        """Block until the engine closes. True if it did so without a word: then it was killed."""
        said_bye = False
        with contextlib.suppress(OSError, ValueError):
            while (message := read_message(self._sock, self._lines)) is not None:
                said_bye = said_bye or "bye" in message
        return not said_bye

    def close(self, *, end_for_all: bool) -> None:
        """``end_for_all``: also for copies of the connection in processes that were forked from this one."""
        if end_for_all:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def attach(settings: Settings, *, deadline_seconds: float = ATTACH_SECONDS) -> Engine:
    """Connect to this user's engine, and start it if there is none.

    Raises RuntimeFailed (101), which says why and names the log file.
    """
    place = place_of(settings.engine_folder)
    return Engine(settings, place, _attach(settings, place, deadline_seconds))


def status(settings: Settings) -> EngineStatus | None:
    """What the engine says; None when none answers. Starts nothing."""
    place = place_of(settings.engine_folder)
    answer = _ask(place, "status")
    return None if answer is None else _status(place, answer)


def stop(settings: Settings) -> bool:
    """Stop the engine: transfers that nobody keeps are paused, parts in flight are handed back.

    Returns when every process of it has ended. False when none ran. Raises RuntimeFailed.
    """
    place = place_of(settings.engine_folder)
    if not is_held(place.lock):
        return False
    deadline = time.monotonic() + _STOP_SECONDS
    asked = False
    while is_held(place.lock):
        asked = asked or _ask(place, "stop") is not None
        if time.monotonic() > deadline:
            holder = read_holder(place.lock)
            who = f"process {holder.pid} on {holder.machine}" if holder else "its process"
            raise RuntimeFailed(f"the engine did not stop within {_STOP_SECONDS:.0f} s ({who}); see {place.log}")
        time.sleep(_POLL_SECONDS)
    return True


def _attach(settings: Settings, place: Place, deadline_seconds: float) -> _Line:
    wish = wish_of(settings, place)
    deadline = time.monotonic() + deadline_seconds
    starter: Starter | None = None
    try:
        while True:
            line = _join(place, wish, deadline)
            if line is not None:
                return line
            if starter is not None and starter.failure:
                raise _failed(place, starter.failure)
            if time.monotonic() > deadline:
                raise _failed(place, _why_late(place, deadline_seconds))
            if starter is None:
                starter = Starter(place, wish)
            elif starter.ended:  # it saw another engine answer, which has gone since
                starter.close()
                starter = Starter(place, wish)
            starter.wait(_POLL_SECONDS)
    finally:
        if starter is not None:
            starter.close()


def _join(place: Place, wish: Wish, deadline: float) -> _Line | None:
    """A lifeline once the engine is ready; None when there is none, or it is about to leave."""
    sock = connect_to(place)
    if sock is None:
        return None
    lines = Lines()
    try:
        sock.settimeout(max(0.1, deadline - time.monotonic()))
        sock.sendall(encode({"want": "lifeline", "version": version(), **_said(wish)}))
        answer = read_message(sock, lines)
    except TimeoutError:
        sock.close()
        raise _failed(place, _why_late(place, None)) from None
    except (OSError, ValueError):
        answer = None
    except BaseException:
        sock.close()
        raise
    if answer is not None and "ready" in answer:
        return _Line(sock, lines, _status(place, answer), [str(each) for each in answer.get("older") or ()])
    sock.close()
    if answer is not None and "failed" in answer:
        raise _failed(place, str(answer["failed"]))
    time.sleep(_POLL_SECONDS)
    return None


def _said(wish: Wish) -> Message:
    """What tells the engine's settings from these; without names where they are more than a message takes."""
    said: Message = {"settings": wish.digest, "variables": wish.fingerprints}
    return said if len(encode(said)) < LONGEST_BYTES // 2 else {"settings": wish.digest}


def _ask(place: Place, want: str) -> Message | None:
    sock = connect_to(place)
    if sock is None:
        return None
    with sock:
        try:
            sock.sendall(encode({"want": want, "version": version()}))
            return read_message(sock, Lines())
        except (OSError, ValueError):
            return None


def _status(place: Place, answer: Message) -> EngineStatus:
    said: dict[str, Any] = {**answer, "folder": str(place.folder), "log_file": str(place.log)}
    return EngineStatus(**{each.name: said.get(each.name) for each in fields(EngineStatus)})  # type: ignore[arg-type]


def _settings_for(settings: Settings, status: EngineStatus) -> Settings:
    """The same settings, with the engine's Redis, and the host name under which its data know this machine."""
    found = {"redis_url": SecretStr(status.redis_url), "broker_url": None, "host": status.host}
    return settings.model_copy(update=found)


def _failed(place: Place, why: str) -> RuntimeFailed:
    return RuntimeFailed(f"the one-machine engine did not start: {why}; its log is {place.log}")


def _why_late(place: Place, seconds: float | None) -> str:
    within = f"not ready within {seconds:g} s" if seconds else "not ready in time"
    holder = read_holder(place.lock)
    if holder is not None and holder.machine != socket.gethostname():
        return f"{within}: its folder is in use on {holder.machine}"
    return f"{within}: {last_line(place.log)}"
