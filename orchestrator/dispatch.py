"""Sends Celery tasks by name, and builds the chord of a round. The only user of Celery here.

Messages carry ids and numbers. A message that cannot be sent is no failure: the sweeper sends it again.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery, chord
from kombu import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as KombuOperationalError

from orchestrator.connection import ledger_errors
from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger import Message
from orchestrator.queues import pool_queue
from orchestrator.records import Armed
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # an application that set up no logs hears nothing: what is lost is sent again

PREPARE, PART, COMPLETE, ABORT = "haulage.prepare", "haulage.part", "haulage.complete", "haulage.abort"


def declared(name: str) -> Queue:
    """A queue with an exchange and routing key of its own: the application's default exchange is not ours."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def make_app(settings: Settings) -> Celery:
    """A Celery application with the settings both sides need; it lives beside the application's own."""
    app = Celery("haulage", broker=settings.broker, backend=settings.broker, set_as_current=False)
    app.conf.update(celery_config(settings))
    app.backend_cls = settings.broker  # else CELERY_RESULT_BACKEND, which is the application's, would win
    return app


def celery_config(settings: Settings) -> dict[str, Any]:
    """Settings, each with its reason in docs/architecture.md. No global key prefix: it would hide our messages."""
    return {
        "broker_read_url": settings.broker,  # these two, because CELERY_BROKER_URL would win over ``broker``
        "broker_write_url": settings.broker,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_default_queue": pool_queue("control"),
        "task_default_exchange": pool_queue("control"),
        "task_default_routing_key": pool_queue("control"),
        "task_queues": [declared(pool_queue(pool)) for pool in settings.pools],
        "task_create_missing_queues": True,
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 5, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        "control_exchange": "haulage",  # else control.shutdown() of another application stops our workers
        "event_exchange": "haulageev",
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_proc_alive_timeout": 20,
        "result_expires": 3600,
        "result_chord_expires": 30 * 86400,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "unacked_key": "haulage.unacked",
            "unacked_index_key": "haulage.unacked_index",
            "unacked_mutex_key": "haulage.unacked_mutex",
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
            "health_check_interval": 10,
        },
        "result_backend_always_retry": True,
        "redis_socket_keepalive": not settings.broker.startswith("redis+socket://"),  # else it cannot connect
        "redis_backend_health_check_interval": 10,
        "broker_pool_limit": 16,
    }


def shown_name(task: str, queue: str) -> str:
    """What monitors call a task. Parts are told apart by pool and no further: each name is a label of a metric."""
    if task != PART:
        return task
    pool = queue.removeprefix(pool_queue(""))
    return f"{PART}[{'host' if pool.startswith('host.') else pool}]"


def shown_args(task: str, args: tuple[Any, ...]) -> str:
    """What monitors show of a message's arguments; which part it is, the claim decides later."""
    match task, args:
        case "haulage.part", (transfer_id, _epoch, round_no, lane, *_):
            return f"{transfer_id} round {round_no} lane {lane}"
        case "haulage.complete", (transfer_id, round_no, *_):
            return f"{transfer_id} round {round_no}"
        case _:
            return str(args[0])


class Dispatcher:
    """Sends messages. Every method may lose its message without harm."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def send(self, message: Message) -> bool:
        """Send one of the sweeper's or ledger's messages. False when the broker is away."""
        name = {"prepare": PREPARE, "part": PART, "complete": COMPLETE, "abort": ABORT}[message.kind]
        return self._publish(name, message.args, message.queue)

    def send_all(self, messages: list[Message]) -> None:
        """Send many; stops at the first that fails, because the rest would too."""
        for message in messages:
            if message.kind != "admit" and not self.send(message):
                return

    def waiting(self, queue: str) -> int:
        """How many messages wait in a queue; 0 when the broker cannot say."""
        try:
            with ledger_errors(), self.app.pool.acquire(block=True) as connection:
                return int(connection.default_channel.client.llen(queue))
        except (KombuError, KombuOperationalError, LedgerUnavailable, OSError):
            return 0

    def forget(self, queue: str) -> bool:
        """Remove a queue that nobody will serve again, with its bindings. False while messages wait in it."""
        try:
            with ledger_errors(), self.app.pool.acquire(block=True) as connection, connection.channel() as channel:
                bound = declared(queue)(channel)
                bound.declare()  # kombu removes only what the same connection has declared
                waiting = bound.queue_declare().message_count
                bound.delete(if_empty=True)
        except (KombuError, KombuOperationalError, LedgerUnavailable, OSError):
            return False
        return not waiting

    def prepare(self, transfer_id: str, epoch: int, queue: str) -> None:
        """Ask for a preparation."""
        self._publish(PREPARE, (transfer_id, epoch), queue)

    def complete(self, transfer_id: str, round_no: int, queue: str) -> None:
        """Ask for the commit, outside a chord."""
        self._publish(COMPLETE, (transfer_id, round_no), queue)

    def abort(self, transfer_id: str, queue: str) -> None:
        """Ask for the clean-up after a cancel."""
        self._publish(ABORT, (transfer_id,), queue)

    def round(self, transfer_id: str, armed: Armed, queue: str, control: str) -> None:
        """Publish a round: a chord of lanes, or one plain lane (Celery would make a chain of a chord of one)."""
        if armed.lanes == 1:
            self._publish(PART, (transfer_id, armed.epoch, armed.round_no, 1, 0), queue)
            return
        header = [
            self.lane(transfer_id, armed.epoch, armed.round_no, number, 0, queue)
            for number in range(1, armed.lanes + 1)
        ]
        body = self.app.signature(COMPLETE, args=(transfer_id, armed.round_no), immutable=True)
        shown = shown_args(COMPLETE, (transfer_id, armed.round_no))
        body.set(queue=self._queue(control), argsrepr=shown, kwargsrepr="{}")
        try:
            with ledger_errors():  # the chord's counters are written without the broker's error handling
                chord(header, body, app=self.app).apply_async()
        except (KombuError, KombuOperationalError, LedgerUnavailable, OSError) as exc:
            log.warning("round_not_published", extra={"transfer_id": transfer_id, "error": type(exc).__name__})

    def lane(self, transfer_id: str, epoch: int, round_no: int, lane: int, seq: int, queue: str) -> Any:
        """A lane's next task, as a signature: for the chord, or as the successor of a part task."""
        args = (transfer_id, epoch, round_no, lane, seq)
        signature = self.app.signature(PART, args=args, immutable=True)
        shown = {"argsrepr": shown_args(PART, args), "kwargsrepr": "{}", "shadow": shown_name(PART, queue)}
        return signature.set(queue=self._queue(queue), ignore_result=True, **shown)

    def part(self, transfer_id: str, epoch: int, round_no: int, lane: int, seq: int, queue: str) -> None:
        """Send a lane's next task outside a chord."""
        self._publish(PART, (transfer_id, epoch, round_no, lane, seq), queue)

    def _publish(self, name: str, args: tuple[Any, ...], queue: str) -> bool:
        try:
            self.app.send_task(
                name,
                args=args,
                queue=self._queue(queue),
                ignore_result=True,
                argsrepr=shown_args(name, args),
                kwargsrepr="{}",
                shadow=shown_name(name, queue),
            )
        except (KombuError, KombuOperationalError, OSError) as exc:
            what = {"task": name, "transfer_id": str(args[0]), "error": type(exc).__name__}
            log.warning("message_not_sent", extra=what)
            return False
        return True

    def _queue(self, name: str) -> str:
        """The name, once Celery knows its exchange. A name, not a Queue: a chord's body travels as JSON."""
        if name not in self.app.amqp.queues:
            self.app.amqp.queues.add(declared(name))
        return name
