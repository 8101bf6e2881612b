"""Tells applications that their transfers have ended: takes notices from the outbox to the application's queue."""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as KombuOperationalError

from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger import Ledger
from orchestrator.notices import Notice, Outbox
from orchestrator.settings import Settings

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 1.0
_CONNECT_SECONDS, _ANSWER_SECONDS = 4, 5


class Courier:
    """A thread in every worker process. It sleeps until the bell of the outbox rings, or the sweeper rings again."""

    def __init__(self, ledger: Ledger) -> None:
        self._outbox = Outbox(ledger)
        self._app = application(ledger.settings)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="haulage-notices", daemon=True)

    def start(self) -> None:
        """Begin to deliver, with what lies in the outbox already."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the notice that is being sent."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_WAIT_SECONDS + _CONNECT_SECONDS)
        self._app.close()

    def deliver(self) -> int:
        """Send all that is due; answers how many were taken. A broker that is away is asked once a round."""
        taken = 0
        while not self._end.is_set() and (notices := self._outbox.claim()):
            is_away = False
            for notice in notices:
                if not is_away and self._send(notice):
                    self._outbox.taken(notice)
                    taken += 1
                else:
                    is_away = True
                    self._outbox.not_taken(notice)
        return taken

    def _send(self, notice: Notice) -> bool:
        try:
            self._app.send_task(
                notice.task,
                args=[notice.transfer_id, notice.outcome],
                task_id=notice.name,
                queue=_queue(notice.queue),
                ignore_result=True,
                argsrepr=f"[{notice.transfer_id!r}, {notice.outcome['state']!r}]",
                kwargsrepr="{}",
            )
        except (KombuError, KombuOperationalError, OSError, RuntimeError) as exc:
            # The text may hold the broker's URL.
            log.warning(
                "notice_not_sent",
                transfer_id=notice.transfer_id,
                queue=notice.queue,
                error=type(exc).__name__,
                tries=notice.tries,
            )
            return False
        log.info("notice_sent", transfer_id=notice.transfer_id, task=notice.task, queue=notice.queue)
        return True

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                self.deliver()
                self._outbox.wait(_WAIT_SECONDS)
            except LedgerUnavailable as exc:
                log.warning("notices_wait", error=str(exc))
                self._end.wait(_WAIT_SECONDS)
            except Exception:
                log.exception("notices_failed")
                self._end.wait(_WAIT_SECONDS)


def application(settings: Settings) -> Celery:
    """Speaks to the application's broker as its own Celery would."""
    url = settings.notify_broker
    app = Celery("haulage-notices", broker=url, backend=None, set_as_current=False)
    options: dict[str, Any] = {}
    if url.partition(":")[0] in ("redis", "rediss", "redis+socket"):
        options = {"socket_connect_timeout": _CONNECT_SECONDS, "socket_timeout": _ANSWER_SECONDS}
    app.conf.update(
        broker_read_url=url,  # these two, because CELERY_BROKER_URL, which is the application's, would win
        broker_write_url=url,
        broker_connection_timeout=_CONNECT_SECONDS,
        broker_transport_options=options,
        broker_pool_limit=1,
        task_serializer="json",
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
    )
    return app


def _queue(name: str) -> Queue:
    """As a plain ``Celery()`` declares its default queue: a direct exchange and a routing key of the same name."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)
