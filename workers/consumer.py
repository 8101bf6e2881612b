"""Celery's consumer, taught that a lost broker is no reason for the worker process to end."""

from __future__ import annotations

from typing import Any

from celery.worker.consumer import Consumer


class PatientConsumer(Consumer):
    """Leaves the broker's address to messages that came over a connection which is lost."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the connection, as Celery does: that first forgets the address, then needs it.

        Kombu asks for it when it closes the channel of a message that is not acknowledged, and when the task of such
        a message acknowledges later. Without it, that is an AttributeError in the main thread: the process ends.
        """
        lost: Any = self.connection
        transport = lost.transport
        collect = lost.collect

        def collect_and_remember(**options: Any) -> None:
            try:
                collect(**options)
            finally:
                transport.client = lost

        lost.collect = collect_and_remember
        super().on_connection_error_after_connected(exc)
        transport.client = lost
