"""Somebody else's Celery application, with the names Celery gives by default, on the Redis that Haulage uses too."""

from __future__ import annotations

import os
import time

import redis
from celery import Celery

RAN = "neighbour:ran"
url = os.environ.get("NEIGHBOUR_REDIS", "redis://127.0.0.1:1/0")
app = Celery("neighbour", broker=url, backend=url, set_as_current=False)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 2, "unacked_restore_interval": 1},
)


@app.task(name="neighbour.double")
def double(number: int) -> int:
    with redis.Redis.from_url(url) as client:
        client.rpush(RAN, f"double {number}")
    time.sleep(0.3)
    return 2 * number


@app.task(name="neighbour.total")
def total(numbers: list[int]) -> int:
    with redis.Redis.from_url(url) as client:
        client.rpush(RAN, "total")
    return sum(numbers)
