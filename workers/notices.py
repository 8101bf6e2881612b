"""Tells applications that their transfers have ended: takes notices from the outbox to the application's queue."""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery import Celery
from kombu import Exchange, Queue

from orchestrator.connection import place_of
from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger import Ledger
from orchestrator.notices import Notice, Outbox
from orchestrator.settings import Settings
from workers.outage import Outages

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 1.0
_CONNECT_SECONDS, _ANSWER_SECONDS = 4, 5


class Courier:
    """A thread in every worker process. It sleeps until the bell of the outbox rings, or the sweeper rings again."""

    def __init__(self, ledger: Ledger, outages: Outages | None = None) -> None:
        """``outages`` are the process's, for what is said of a Redis that is away."""
        self._outbox = Outbox(ledger)
        self._outages = outages or Outages()
        self._server = place_of(ledger.settings.redis)
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
        """Send what is due until the broker is away; answers how many were taken."""
        taken, is_away = 0, False
        while not (is_away or self._end.is_set()) and (notices := self._outbox.claim()):
            for notice in notices:
                error = None if is_away else self._send(notice)
                if is_away or error:
                    is_away = is_away or self._is_away(error)
                    if not self._outbox.not_taken(notice):
                        log.error("notice_given_up", **_about(notice))
                else:
                    self._outbox.taken(notice)
                    taken += 1
        return taken

    def _send(self, notice: Notice) -> Exception | None:
        """Answers what kept the broker from taking it. One that refuses this queue may take others."""
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
        except Exception as exc:
            log.warning(
                "notice_not_sent", error=type(exc).__name__, **_about(notice)
            )  # the text may hold the broker's URL
            return exc
        log.info("notice_sent", **_about(notice))
        return None

    def _is_away(self, error: Exception | None) -> bool:
        """Whether the broker cannot be reached, and not just this queue."""
        with self._app.connection_for_write() as connection:  # opens nothing
            return isinstance(error and (error.__cause__ or error), connection.connection_errors)

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                self.deliver()
                self._outbox.wait(_WAIT_SECONDS)
                self._outages.back(self._server)
            except LedgerUnavailable as exc:
                self._outages.failed("notices_wait", self._server, exc)
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
    app.backend_cls = "disabled"  # else CELERY_RESULT_BACKEND, which is the application's, would be opened
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


def _about(notice: Notice) -> dict[str, str | int]:
    return {"transfer_id": notice.transfer_id, "task": notice.task, "queue": notice.queue, "tries": notice.tries}


def _queue(name: str) -> Queue:
    """As a plain ``Celery()`` declares its default queue: a direct exchange and a routing key of the same name."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)
