"""Repairs what died: a daemon thread in every worker process. Each action is an idempotent move."""

from __future__ import annotations

import threading

import structlog

from orchestrator.connection import place_of
from orchestrator.dispatch import Dispatcher
from orchestrator.errors import LedgerUnavailable
from orchestrator.fleet import Fleet, serves
from orchestrator.ledger import Ledger, Message
from orchestrator.queues import queues_of_host
from workers.notices import Courier
from workers.outage import Outages

log = structlog.get_logger(__name__)

_TIDY_EVERY = 600
_ENOUGH_HINTS = 100


class Sweeper:
    """Runs ``sweep_once`` every ``sweep_seconds``. A thread, because a timer of the worker would delay tasks.

    With it runs the courier, who tells applications that their transfers have ended.
    """

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, process: str, *, outages: Outages | None = None) -> None:
        """``outages`` are the process's, for what is said of a Redis that is away."""
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._fleet = Fleet(ledger)
        self._process = process
        self._outages = outages or Outages()
        self._server = place_of(ledger.settings.redis)
        self._courier = Courier(ledger, self._outages)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="haulage-sweeper", daemon=True)

    def start(self) -> None:
        """Begin sweeping."""
        self._thread.start()
        self._courier.start()

    def close(self) -> None:
        """Stop, and wait for the sweep under way."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._courier.close()

    def sweep_once(self) -> int:
        """One pass over what is due; answers how many messages were sent."""
        messages = self._ledger.sweep(self._process)
        if messages is None:
            return 0
        # Queued transfers are admitted here too: the submitter or the end that should have done it may have died.
        messages = [*self._useful(messages), *self._ledger.admit()]
        for message in messages:
            log.info("repair_sent", kind=message.kind, args=list(message.args))
        self._dispatcher.send_all(messages)
        return len(messages)

    def tidy(self) -> None:
        """Forget processes and hosts that are long gone: each name of a pod would leave its queues' bindings."""
        self._fleet.forget_dead(self._forget_queues)

    def _forget_queues(self, host: str) -> bool:
        """A host that comes back declares them anew; a message that is lost meanwhile is sent again."""
        return all(self._dispatcher.forget(queue) for queue in queues_of_host(host))

    def _useful(self, messages: list[Message]) -> list[Message]:
        """Without more hints for a queue that nobody serves, such as a machine's that is off: it would fill Redis."""
        if not messages:
            return messages
        workers = self._fleet.workers()
        idle = {each.queue for each in messages if not any(serves(worker, each.queue) for worker in workers)}
        full = {queue for queue in idle if queue and self._dispatcher.waiting(queue) >= _ENOUGH_HINTS}
        return [each for each in messages if each.queue not in full]

    def _loop(self) -> None:
        rounds = 0
        while not self._end.wait(self._ledger.settings.sweep_seconds):
            try:
                self.sweep_once()
                rounds += 1
                if rounds % _TIDY_EVERY == 0:
                    self.tidy()
                self._outages.back(self._server)
            except LedgerUnavailable as exc:
                self._outages.failed("sweep_skipped", self._server, exc)
            except Exception:
                log.exception("sweep_failed")
