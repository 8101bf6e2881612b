"""Keeps leases alive, watches for stalls, and carries stop signals into busy threads. One keeper per process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from orchestrator.connection import ledger_errors, place_of
from orchestrator.errors import LedgerUnavailable, RuntimeFailed
from orchestrator.ledger import Ledger, Renewal
from orchestrator.records import Lease
from providers.errors import StopRequested
from providers.interrupts import Interrupt, interruptible
from workers.outage import Outages

log = structlog.get_logger(__name__)

STOPPED_STATES = frozenset({"paused", "cancelled"})
"""States in which a busy part hands itself back. After ``failed`` the siblings of the failed part finish."""

_LEAVE_SECONDS = 10.0
"""How long a process whose threads are stuck waits for those that are not."""


@dataclass(slots=True, eq=False)
class Held:
    """A lease in use by one thread. ``renewed`` and ``touched`` are monotonic seconds."""

    lease: Lease
    self_fence_seconds: float
    stall_seconds: float
    renewed: float
    touched: float
    patience: float = 0.0
    received: int | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    why: str = ""
    interrupt: Interrupt = field(default_factory=Interrupt)

    def check(self) -> None:
        """Raises StopRequested when this thread must not write any more. Called before every write."""
        if self.stopped.is_set():
            raise StopRequested(self.why)
        if time.monotonic() - self.renewed > self.self_fence_seconds:
            self.stop("lost")
            raise StopRequested(self.why)

    def passed(self, count: int) -> None:
        """``count`` bytes passed: the stall clock starts anew."""
        self.received = (self.received or 0) + count
        self.touch()

    def touch(self, *, patience_seconds: float = 0.0) -> None:
        """Something moved. ``patience_seconds`` is for what comes next, if it is silent by nature (a commit)."""
        self.touched = time.monotonic()
        self.patience = patience_seconds

    def moved(self) -> None:
        """Bytes left or arrived on a socket: the stall clock starts anew, whatever the patience."""
        self.touched = time.monotonic()

    def stop(self, why: str) -> None:
        """why: lost | stalled | paused | cancelled | drain."""
        if not self.stopped.is_set():
            self.why = why
            self.stopped.set()
            self.interrupt.fire()

    @property
    def lost(self) -> bool:
        """The lease is gone: nothing this thread did may count, and there is nothing to give back."""
        return self.stopped.is_set() and self.why == "lost"

    def stalled(self, now: float) -> bool:
        return now - self.touched > max(self.stall_seconds, self.patience)


class LeaseKeeper:
    """Renews every lease of the process in one pipeline a second, and hears stops by pub/sub."""

    def __init__(
        self,
        ledger: Ledger,
        process: str,
        *,
        beat: Callable[[int], None] | None = None,
        slots: int = 0,
        give_up: Callable[[], None] | None = None,
    ) -> None:
        """``beat(stuck)`` is called with each renewal: the process heartbeat.

        Once half of ``slots`` threads are stuck, the process drains and ``give_up`` is called, to be restarted: no
        time limit can end a thread. 0 slots: never.
        """
        settings = ledger.settings
        self._ledger = ledger
        self._server = place_of(settings.redis)
        self.outages = Outages()
        """What this process says of a Redis that is away, shared by all its threads."""
        self.process = process
        self._beat = beat
        self._slots = slots
        self._give_up = give_up
        self._every = min(settings.renew_seconds, settings.lease_seconds / 3)
        self._fence = settings.lease_seconds * 2 / 3
        # The transport gives a stalled body up by itself; this is the net below it.
        self._stall = settings.stall_seconds + settings.read_seconds
        self._held: set[Held] = set()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.draining = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the two threads. Safe to repeat."""
        with self._lock:
            if self._threads:
                return
            for name, target in (("haulage-renew", self._renew_loop), ("haulage-stop", self._listen_loop)):
                thread = threading.Thread(target=target, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as exc:
                    raise RuntimeFailed(f"the thread {name} could not be started: {exc}") from exc
                self._threads.append(thread)

    def close(self) -> None:
        """End the threads."""
        self._end.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def drain(self) -> None:
        """Hand everything back: busy parts stop at their next buffer, and no part is claimed any more."""
        self.draining.set()
        for held in self._all():
            held.stop("drain")

    @contextmanager
    def hold(self, lease: Lease, *, sent: float) -> Iterator[Held]:
        """Keep ``lease`` while the block runs. ``sent`` is the monotonic time before the claim was sent."""
        now = time.monotonic()
        held = Held(lease, self._fence, self._stall, renewed=sent, touched=now)
        with self._lock:
            self._held.add(held)
        held.interrupt.alive = held.moved
        if self.draining.is_set():
            held.stop("drain")
        try:
            with interruptible(held.interrupt):
                yield held
        finally:
            with self._lock:
                self._held.discard(held)

    @property
    def stuck(self) -> int:
        """Threads that have not moved for so long that their lease was let go."""
        now = time.monotonic()
        return sum(held.stalled(now) for held in self._all())

    def renew_once(self) -> None:
        """One renewal of everything that moves; tests call it instead of waiting."""
        now = time.monotonic()
        for held in self._all():
            if held.stalled(now):
                held.stop("stalled")  # a wait for the network ends by this; any other thread is stuck
        alive = [held for held in self._all() if not held.stalled(now) and not held.lost]
        renewals = self._ledger.renew([(held.lease, held.received) for held in alive], self.process)
        for held, renewal in zip(alive, renewals, strict=True):
            self._apply(held, renewal, now)
        if self._beat:
            self._beat(self.stuck)
        if self._slots and self._give_up and 2 * self.stuck >= self._slots and not self.draining.is_set():
            log.error("process_gives_up", stuck=self.stuck, slots=self._slots)
            threading.Thread(target=self._leave, args=(self._give_up,), name="haulage-leave", daemon=True).start()

    def _leave(self, give_up: Callable[[], None]) -> None:
        """Let go of everything that still moves, then end; renewals go on meanwhile."""
        self.drain()
        deadline = time.monotonic() + _LEAVE_SECONDS
        while len(self._all()) > self.stuck and time.monotonic() < deadline and not self._end.wait(0.05):
            pass
        give_up()

    def _apply(self, held: Held, renewal: Renewal, sent: float) -> None:
        if not renewal.held:
            held.stop("lost")
        elif renewal.state in STOPPED_STATES and held.lease.member != "abort":
            held.stop(renewal.state)
        if renewal.held:
            held.renewed = sent

    def _renew_loop(self) -> None:
        while not self._end.wait(self._every):
            try:
                self.renew_once()
                if self._beat:  # else nothing may have been asked
                    self.outages.back(self._server)
            except LedgerUnavailable as exc:
                self.outages.failed("leases_not_renewed", self._server, exc)
            except Exception:
                log.exception("renewal_failed")

    def _listen_loop(self) -> None:
        while not self._end.is_set():
            try:
                with ledger_errors():
                    self._listen()
            except LedgerUnavailable as exc:
                self.outages.failed("stop_channel_lost", self._server, exc)
            except Exception as exc:  # a lost stop costs one renewal, a dead listener every stop
                self.outages.seldom("stop_channel_lost", error=type(exc).__name__)
            self._end.wait(0.5)

    def _listen(self) -> None:
        with self._ledger.redis.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe("hl:stop")
            while not self._end.is_set():
                message = channel.get_message(timeout=1.0)
                if message:
                    self._heard(message["data"].decode())

    def _heard(self, text: str) -> None:
        transfer_id, state, epoch = text.split(" ")
        if state not in STOPPED_STATES:
            return
        for held in self._all():
            if held.lease.transfer_id == transfer_id and held.lease.epoch < int(epoch) and held.lease.member != "abort":
                held.stop(state)

    def _all(self) -> list[Held]:
        with self._lock:
            return list(self._held)
