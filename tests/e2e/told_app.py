"""Somebody's plain Celery application, which asked to be told when its transfers end."""

from __future__ import annotations

import json
import os
from typing import Any

import redis
from celery import Celery, Task

TOLD = "told"
url = os.environ.get("TOLD_BROKER", "redis://127.0.0.1:1/0")
app = Celery("app", broker=url, set_as_current=False)


@app.task(bind=True, name="app.transfer_ended")
def transfer_ended(self: Task, transfer_id: str, outcome: dict[str, Any]) -> None:
    with redis.Redis.from_url(url) as client:
        client.rpush(TOLD, json.dumps([self.request.id, transfer_id, outcome]))
