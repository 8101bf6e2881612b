"""Which rights at the broker a user lacks: Redis refuses a command without naming the key it was about."""

from __future__ import annotations

import redis
from redis.exceptions import NoPermissionError

_KEYS = {
    "~haulage.*": "haulage.probe",
    "~_kombu.binding*": "_kombu.binding.haulage.probe",
    "~celery-task*": "celery-taskset-meta-haulage-probe",
    "~*.haulage.pidbox*": "probe.haulage.pidbox\x06\x163",
}
"""As a line of an ACL file has it -> a key that nobody uses; kombu appends priorities to names."""
_CHANNELS = ("/{db}.haulage.pidbox", "/{db}.haulageev/worker.heartbeat")


def missing_rights(broker: redis.Redis) -> list[str]:
    """What to add to the user, as an ACL file has it. Deletes keys that are not there, and listens for a moment."""
    database = broker.get_connection_kwargs().get("db") or 0
    keys = [pattern for pattern, key in _KEYS.items() if _refused(broker, key)]
    channels = [each.format(db=database) for each in _CHANNELS]
    return keys + [f"&{each.replace('worker.heartbeat', '*')}" for each in channels if _unheard(broker, each)]


def _refused(broker: redis.Redis, key: str) -> bool:
    try:
        broker.delete(key)
    except NoPermissionError:
        return True
    return False


def _unheard(broker: redis.Redis, channel: str) -> bool:
    listener = broker.pubsub()
    try:
        listener.subscribe(channel)
        listener.get_message(timeout=1)
    except NoPermissionError:
        return True
    finally:
        listener.close()
    return False
