"""Uploads between the intent to open one and the record of its name: a process that dies there leaves one unnamed."""

from __future__ import annotations

import structlog

from orchestrator.records import Record
from providers.base import Destination, ListsUploads, UploadId

log = structlog.get_logger(__name__)

_SLACK_SECONDS = 5.0
"""By how much the store's clock may be behind that of the worker that wrote the intent."""


def unnamed_uploads(destination: Destination, record: Record) -> list[UploadId]:
    """Open uploads of exactly this key since the intent. One is ours; of several nobody can say which.

    Empty where the store cannot list them.
    """
    if not isinstance(destination, ListsUploads):
        return []
    since = record.number("intent_at") / 1000 - _SLACK_SECONDS
    found = [upload for upload, created in destination.list_uploads() if created >= since]
    if len(found) > 1:
        log.warning("unknown_uploads_found", transfer_id=record.transfer_id, count=len(found))
    return found
