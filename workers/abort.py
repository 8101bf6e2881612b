"""``abort``: after a cancel, drop the multipart upload or temporary file, once no part is in flight any more."""

from __future__ import annotations

import time

import structlog

from orchestrator.ledger import new_nonce
from orchestrator.records import Record
from providers.base import Destination, DropsUnnamed, ListsUploads
from workers.bootstrap import Deps
from workers.failures import describe
from workers.intents import unnamed_uploads

log = structlog.get_logger(__name__)

_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 1_000, 600_000
ABORT_SECONDS = 120.0
_LOOKS = 3
"""How often an upload is looked for whose opener never named it: the store may still be at it."""


def run_abort(deps: Deps, transfer_id: str) -> str:
    """Clean up once; answers what came of it, for people.

    A failure is tried again by the sweeper, and the transfer stays cancelled.
    """
    sent = time.monotonic()
    granted = deps.ledger.abort_claim(transfer_id, deps.process, new_nonce())
    if isinstance(granted, str):
        return f"nothing to do ({granted})"
    lease, record = granted
    with deps.keeper.hold(lease, sent=sent) as held:
        held.touch(patience_seconds=ABORT_SECONDS)
        try:
            if not _drop(deps.endpoints.open(record).destination, record) and lease.attempt < _LOOKS:
                delay_ms = _FIRST_WAIT_MS << lease.attempt
                deps.ledger.aborted(lease, fine=False, delay_ms=delay_ms)
                return f"no upload is open (looked for again in {delay_ms / 1000:.0f} s)"
            deps.ledger.aborted(lease, fine=True)
            log.info("transfer_cleaned_up", transfer_id=transfer_id)
            return "cleaned up"
        except Exception as exc:
            error = describe(exc, worker=deps.process, attempt=lease.attempt)
            delay_ms = min(_FIRST_WAIT_MS << min(lease.attempt, 20), _LONGEST_WAIT_MS)
            log.warning("clean_up_failed", transfer_id=transfer_id, code=error["code"], message=error["message"])
            deps.ledger.aborted(lease, fine=False, delay_ms=delay_ms, error=error)
            return f"{error['code']} (tried again in {delay_ms / 1000:.0f} s)"


def _drop(destination: Destination, record: Record) -> bool:
    """False: an upload may be open that cannot be found yet."""
    if record.session is not None:
        destination.abort_upload(record.session)
        return True
    if isinstance(destination, DropsUnnamed):
        destination.drop_unnamed()
        return True
    if not isinstance(destination, ListsUploads):
        return True
    unnamed = unnamed_uploads(destination, record)
    if len(unnamed) == 1:
        destination.abort_upload(unnamed[0])
    return bool(unnamed)
