"""An application's own Celery, which submits a transfer and is told when it has ended.

    celery -A examples.celery_app worker -Q shop
    celery -A examples.celery_app call shop.fetch -Q shop --args '["https://example.org/a.csv", "/data/a.csv"]'

It may share Haulage's Redis (HAULAGE_REDIS_URL): queues and keys have names of their own.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from haulage import DuplicateTransfer, TransferClient

REDIS = os.environ.get("HAULAGE_REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery("shop", broker=REDIS)
app.conf.task_default_queue = "shop"


@app.task(name="shop.fetch")  # type: ignore[untyped-decorator]  # Celery has no types
def fetch(source: str, destination: str) -> str:
    """Submit and return at once: no worker of this application waits for bytes."""
    with TransferClient(redis_url=REDIS) as client:
        try:
            return client.submit(
                source,
                destination,
                idempotency_key=source,  # Celery may run this task twice; the transfer is one
                reference=os.path.basename(source),
                notify={"task": "shop.arrived", "queue": "shop"},
            )
        except DuplicateTransfer as exc:
            return exc.transfer_id


@app.task(name="shop.arrived")  # type: ignore[untyped-decorator]  # Celery has no types
def arrived(transfer_id: str, outcome: dict[str, Any]) -> None:
    """Called at least once when the transfer has ended, whatever died in between."""
    if outcome["state"] == "completed":
        print(f"{outcome['reference']} is here: {outcome['result']['size_bytes']} bytes", flush=True)
    else:
        print(f"{outcome['reference']} {outcome['state']}: {outcome['code']}: {outcome['message']}", flush=True)
