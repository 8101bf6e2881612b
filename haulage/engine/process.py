"""The engine's process: holds the lock, keeps Valkey and the workers alive, answers clients, leaves when unneeded."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING

from haulage.engine.binary import prepare_data
from haulage.engine.folders import Place, make_private, make_socket_folder
from haulage.engine.identity import version
from haulage.engine.lock import EngineLock, Holder
from haulage.engine.notes import note, trim_log
from haulage.engine.reception import Reception, Visitor
from haulage.engine.valkey import ValkeyServer
from haulage.engine.wire import Message, connect_to
from orchestrator.errors import HaulageError, RuntimeFailed

if TYPE_CHECKING:
    from haulage.engine.crew import Crew

_LOCK_SECONDS = 30.0
_START_SECONDS = 60.0
"""Workers that do not get ready are given up after this time, if nobody waits for them."""
_STARTING_TICK_SECONDS = 0.02
_TICK_SECONDS = 0.5
_HOUSEKEEPING_SECONDS = 60.0
_KEPT_AGAIN_SECONDS = 5.0


class Why(StrEnum):
    """Why an engine stops."""

    UNNEEDED = "nobody needs it"
    ASKED = "asked to stop"
    SIGNALLED = "told by a signal"
    REPLACED = "another version or environment takes over"
    MOVED = "its folder was removed"


@dataclass(frozen=True, slots=True)
class Options:
    """What the starter says. ``umask`` is the user's own, for the files that workers make.

    Without a digest (started by hand) the engine is nobody's to replace for its settings.
    """

    place: Place
    umask: int
    settings_digest: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of what the digest is made of."""


class EngineProcess:
    """One run of the engine, with the lock taken. Single-threaded: it forks."""

    def __init__(self, options: Options, lock: EngineLock) -> None:
        self._options = options
        self._lock = lock
        self._sockets = make_socket_folder(options.place.folder)
        binary, self._host = prepare_data(
            options.place.data, os.environ.get("HAULAGE_HOST") or socket.gethostname(), note
        )
        self._valkey = ValkeyServer(binary, options.place.data, self._sockets, options.place.log, lock.fd)
        self._reception = Reception(self._sockets / "engine.sock")
        self._crew: Crew | None = None
        self._started_at = time.time()
        self._ready = False
        self._waiting: list[tuple[Visitor, Message]] = []
        self._why: Why | None = None
        self._last_needed = self._look_again = time.monotonic()
        self._next_housekeeping = self._last_needed + _HOUSEKEEPING_SECONDS

    def run(self) -> None:
        """Until there is a reason to stop. Raises RuntimeFailed when it cannot start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the loop
        self._reception.open()
        holder = Holder(os.getpid(), self._started_at, socket.gethostname(), version(), str(self._sockets))
        self._lock.write(holder)
        try:
            crew = self._start()
            while self._why is None:
                self._turn(crew)
        except Exception as exc:
            self._fail(exc)
            raise
        self._finish(crew, self._why)

    def _start(self) -> Crew:
        """Valkey reads its data while this process imports what the workers need."""
        self._valkey.start()
        url = self._valkey.url
        os.environ.update(HAULAGE_REDIS_URL=url, HAULAGE_BROKER_URL=url, HAULAGE_HOST=self._host)
        from haulage.engine.crew import Crew

        crew = self._crew = Crew(self._options.umask, self._reception.close)
        self._valkey.wait_ready()
        return crew

    def _turn(self, crew: Crew) -> None:
        self._valkey.tend()
        crew.tend()
        for visitor, message in self._reception.wait(_TICK_SECONDS if self._ready else _STARTING_TICK_SECONDS):
            self._hear(crew, visitor, message)
        if not self._ready and crew.is_ready():
            self._open_for_clients(crew)
        self._consider_leaving(crew)
        if time.monotonic() > self._next_housekeeping:
            self._next_housekeeping = time.monotonic() + _HOUSEKEEPING_SECONDS
            trim_log(self._options.place.log)
        if not self._lock.is_in_place():
            self._why = Why.MOVED

    def _open_for_clients(self, crew: Crew) -> None:
        self._ready = True
        self._needed_now()
        took = round(time.time() - self._started_at, 2)
        note("engine_ready", pid=os.getpid(), folder=self._options.place.folder, seconds=took)
        waiting, self._waiting = self._waiting, []
        for visitor, message in waiting:
            self._attach(crew, visitor, message)

    def _hear(self, crew: Crew, visitor: Visitor, message: Message) -> None:
        match message.get("want"):
            case "lifeline":
                visitor.holds_lifeline = True
                if self._ready:
                    self._attach(crew, visitor, message)
                else:
                    self._waiting.append((visitor, message))
            case "status":
                visitor.answer(**self._status(crew))
            case "stop":
                visitor.answer(stopping=True)
                self._why = Why.ASKED
            case _:
                visitor.answer(failed="this engine does not know what is wanted")

    def _attach(self, crew: Crew, visitor: Visitor, message: Message) -> None:
        self._needed_now()
        if self._reception.lifelines <= 1 and self._is_outdated(crew, message):
            visitor.answer(restarting=True)
            self._why = Why.REPLACED
            return
        visitor.answer(ready=True, older=self._older(message), **self._status(crew))

    def _older(self, message: Message) -> list[str]:
        """The names of settings that are others here than at this client."""
        ours, theirs = self._options.variables, _variables(message)
        if not self._options.settings_digest or not theirs:
            return []
        return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))

    def _is_outdated(self, crew: Crew, message: Message) -> bool:
        """Of another version; or started with other settings or credentials, and nothing moves by those.

        What waits may wait for just these. But a client that lacks some of ours takes nothing from what waits: it may
        have come from another shell only to look.
        """
        if message.get("version") != version():
            return True
        ours = self._options.settings_digest
        if not ours or message.get("settings") == ours:
            return False
        from haulage.engine.keeping import LIVE, MOVING, any_in

        has_all = self._options.variables.keys() <= _variables(message).keys()
        try:
            return not any_in(crew.settings, MOVING if has_all else LIVE)
        except HaulageError:
            return False

    def _status(self, crew: Crew) -> Message:
        return {
            "pid": os.getpid(),
            "state": "ready" if self._ready else "starting",
            "version": version(),
            "redis_url": self._valkey.url,
            "host": self._host,
            "valkey": str(self._valkey.binary),
            "valkey_pid": self._valkey.pid,
            "worker_pids": crew.pids,
            "lifelines": self._reception.lifelines,
            "started_at": self._started_at,
        }

    def _needed_now(self) -> None:
        self._last_needed = self._look_again = time.monotonic()

    def _consider_leaving(self, crew: Crew) -> None:
        now = time.monotonic()
        linger = crew.settings.engine_linger_seconds
        if not self._ready:
            linger = max(linger, _START_SECONDS)
        if self._reception.visitors:
            self._needed_now()
        elif now - self._last_needed >= linger and now >= self._look_again:
            from haulage.engine.keeping import is_keeping

            self._look_again = now + _KEPT_AGAIN_SECONDS
            try:
                if not is_keeping(crew.settings):
                    self._why = Why.UNNEEDED
            except HaulageError as exc:
                note("kept_not_known", level="warning", error=str(exc))

    def _finish(self, crew: Crew, why: Why) -> None:
        """Pause, hand back, write to disk, in this order: nothing that was done is lost."""
        from haulage.engine.keeping import pause_others

        note("engine_stopping", why=str(why), lifelines=self._reception.lifelines)
        self._reception.tell_all(bye=str(why))
        self._reception.stop_listening(unlink=why is not Why.MOVED)
        if why is not Why.REPLACED:
            try:
                note("transfers_paused", count=pause_others(crew.settings))
            except HaulageError as exc:
                note("transfers_not_paused", level="warning", error=str(exc))
        crew.drain()
        if why is Why.MOVED:
            self._valkey.abandon()
        self._leave()

    def _fail(self, exc: Exception) -> None:
        """Tell those who wait why there is no engine."""
        text = str(exc) if isinstance(exc, HaulageError) else f"{type(exc).__name__}: {exc}"
        self._reception.wait(0)  # who waits to be let in hears it too
        self._reception.tell_all(failed=text)
        self._reception.stop_listening()
        if self._crew:
            self._crew.drain()
        self._leave()

    def _leave(self) -> None:
        self._valkey.stop()
        self._lock.clear()
        self._reception.close()
        note("engine_stopped")

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self._why = self._why or Why.SIGNALLED


def _variables(message: Message) -> dict[str, str]:
    """Empty where a client said none."""
    said = message.get("variables")
    return said if isinstance(said, dict) else {}


def run(options: Options) -> str:
    """Be the engine of the folder until it is not needed. Answers how that went, for who started it.

    ``served``: another engine answers there already. Raises RuntimeFailed.
    """
    make_private(options.place.folder)
    lock = EngineLock(options.place.lock)
    deadline = time.monotonic() + _LOCK_SECONDS
    while not lock.take():
        # Somebody serves: then this process is not needed. Somebody leaves or died just now: then it is our turn soon.
        other = connect_to(options.place)
        if other is not None:
            other.close()
            return "served"
        if time.monotonic() > deadline:
            raise RuntimeFailed("another engine holds the lock and does not answer")
        time.sleep(0.05)
    trim_log(options.place.log)
    EngineProcess(options, lock).run()
    return "stopped"
