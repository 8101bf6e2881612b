"""``complete``: the ledger says whether all parts are there; then verify, commit, verify, and say so. Repeatable."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import structlog
from awscrt.checksums import combine_crc64nvme

from orchestrator.ledger import new_nonce
from orchestrator.plan import PlannedParts
from orchestrator.records import Armed, Lease, Record
from providers.base import (
    BUFFER_BYTES,
    ByteRange,
    HashesUpload,
    ListsParts,
    ObjectStat,
    OpenedElsewhere,
    PartReceipt,
    ReadsBack,
    RepairsParts,
    UploadId,
)
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    InvalidPart,
    LocalFileRemoved,
    ProviderError,
    SourceChanged,
    SourceMissing,
    Stalled,
    StopRequested,
    UploadNotFound,
)
from workers.bootstrap import Deps
from workers.endpoints import Endpoints
from workers.failures import describe
from workers.leases import Held
from workers.verdict import Step, budget_of, pass_verdict

log = structlog.get_logger(__name__)

COMMIT_SECONDS = 900.0
"""Patience for a commit: stores take minutes to join 10,000 parts, and an fsync of many GB as long."""


class PartsLost(Exception):
    """The store does not have what the receipts say: the parts named (None: all) must be sent again."""

    def __init__(self, parts: Sequence[int] | None) -> None:
        super().__init__("parts lost")
        self.parts = parts


def run_complete(deps: Deps, transfer_id: str, round_no: int) -> str:
    """Commit once; answers what came of it, for people.

    Called too early it arms a round or leaves; called again it finds the transfer over.
    """
    sent = time.monotonic()
    granted = deps.ledger.complete_claim(transfer_id, round_no, deps.process, new_nonce())
    if isinstance(granted, Armed):
        record = deps.ledger.record(transfer_id)
        deps.dispatcher.round(transfer_id, granted, record.fields["q"], record.fields["qc"])
        return f"parts are missing · round {granted.round_no} of {granted.lanes} lanes"
    if isinstance(granted, str):
        return f"nothing to do ({granted})"
    lease, record = granted
    came_of_it = "stopped"
    with deps.keeper.hold(lease, sent=sent) as held:
        held.touch(patience_seconds=COMMIT_SECONDS)
        try:
            came_of_it = _commit(deps, held, record)
            deps.metrics.committed(time.monotonic() - sent)
        except PartsLost as lost:
            came_of_it = _send_again(deps, lease, record, lost)
        except Exception as exc:
            if held.why == "stalled":
                came_of_it = _failed(deps, lease, record, Stalled("nothing moved for too long"))
            elif not (held.stopped.is_set() or isinstance(exc, StopRequested)):
                came_of_it = _failed(deps, lease, record, exc)
            elif held.why == "drain":
                deps.ledger.complete_done(lease, "handed_back", data={})
                deps.dispatcher.complete(transfer_id, round_no, record.fields["qc"])
                came_of_it = "handed back (drain)"
            else:
                came_of_it = f"stopped ({held.why})"
                if held.lost:
                    deps.metrics.lease_lost("commit")
    deps.dispatcher.send_all(deps.ledger.admit())
    return came_of_it


def _send_again(deps: Deps, lease: Lease, record: Record, lost: PartsLost) -> str:
    """Back to prepare with the lost parts undone; a store that loses them every time is not fed for ever."""
    if lease.attempt >= record.spec.retry.prepare_attempts:
        return _failed(deps, lease, record, UploadNotFound(f"the store lost parts in {lease.attempt} commits"))
    deps.ledger.undo(lease, lost.parts)
    error = describe(UploadNotFound("the store lost parts: they are sent again"), worker=deps.process)
    deps.ledger.complete_done(lease, "restart", data=error)
    deps.endpoints.forget(lease.transfer_id)
    deps.dispatcher.prepare(lease.transfer_id, lease.epoch + 1, record.fields["qc"])
    return "the store lost parts: they are sent again"


def _commit(deps: Deps, held: Held, record: Record) -> str:
    ends = deps.endpoints.open(record)
    receipts = deps.ledger.receipts(record)
    missing = set(range(1, ends.plan.part_count + 1)) - {each.number for each in receipts}
    if missing:
        raise PartsLost(sorted(missing))
    _check_source(ends)
    crc = combined_crc(receipts)
    _check_source_checksum(record, crc)
    _check_store(ends, receipts)
    _expect_checksum_before(held, ends)
    held.check()
    held.touch(patience_seconds=COMMIT_SECONDS)
    try:
        stat = _complete_upload(ends, receipts)
    except UploadNotFound:
        raise PartsLost(None) from None
    except DestinationExists:
        if ends.spec.on_exists != "skip":
            raise
        ends.destination.abort_upload(ends.upload)
        deps.ledger.complete_done(held.lease, "completed", data={"skipped": True})
        return "skipped: the destination exists"
    _expect_checksum_after(deps, held, ends, existed=record.number("existed") == 1)
    result: dict[str, Any] = {
        "size_bytes": sum(each.size_bytes for each in receipts),
        "etag": stat.etag or "",
        "crc64nvme": f"{crc:016x}" if crc is not None else "",
        "parts": len(receipts),
        "verified": _verified_by(ends, stat, crc),
        "name": record.fields.get("dest_name", ""),
    }
    if "payload" in stat.metadata:
        result["payload"] = stat.metadata["payload"]
    state = deps.ledger.complete_done(held.lease, "completed", data=result)
    log.info("transfer_completed", transfer_id=record.transfer_id, state=state, size_bytes=result["size_bytes"])
    return f"{state} · {len(receipts)} parts, {result['size_bytes']} bytes, verified by {result['verified']}"


def _check_store(ends: Endpoints, receipts: Sequence[PartReceipt]) -> None:
    """After a power loss, what the receipts say is compared with what is there."""
    if not isinstance(ends.destination, RepairsParts) or ends.plan.size_bytes is None:
        return
    try:
        lost = ends.destination.lost_parts(
            ends.upload, PlannedParts(ends.plan, [each.number for each in receipts]), receipts
        )
    except UploadNotFound:
        raise PartsLost(None) from None
    if lost:
        # A stream cannot send single parts again.
        raise PartsLost(None if ends.plan.stream else lost)


def combined_crc(receipts: Sequence[PartReceipt]) -> int | None:
    """CRC-64/NVME of the whole object from those of its parts, without reading again. None if a part has none."""
    total = 0
    for receipt in receipts:
        if receipt.crc64nvme is None:
            return None
        total = combine_crc64nvme(total, receipt.crc64nvme, receipt.size_bytes)
    return total


def _complete_upload(ends: Endpoints, receipts: Sequence[PartReceipt]) -> ObjectStat:
    try:
        return ends.destination.complete_upload(ends.upload, receipts)
    except InvalidPart:
        healed, lost = _heal(ends, receipts)
        if lost:
            raise PartsLost(lost) from None
        return ends.destination.complete_upload(ends.upload, healed)


def _heal(ends: Endpoints, receipts: Sequence[PartReceipt]) -> tuple[list[PartReceipt], list[int]]:
    """Take the store's ETag where size and checksum agree with the receipt (a zombie sent the same bytes again)."""
    if not isinstance(ends.destination, ListsParts):
        raise PartsLost(None)
    stored = {each.number: each for each in ends.destination.list_parts(ends.upload)}
    healed, lost = [], []
    for receipt in receipts:
        theirs = stored.get(receipt.number)
        same = theirs is not None and theirs.size_bytes == receipt.size_bytes
        proven = theirs is not None and (
            theirs.etag == receipt.etag or theirs.crc64nvme == receipt.crc64nvme is not None
        )
        if theirs is not None and same and proven:
            healed.append(PartReceipt(receipt.number, receipt.size_bytes, theirs.etag, receipt.crc64nvme))
        else:
            lost.append(receipt.number)
    return healed, lost


def _check_source(ends: Endpoints) -> None:
    """Where each range reply was not pinned by the server, look once more that nothing changed."""
    if ends.validator.kind in ("etag", "version", "last_modified", "none"):
        return
    try:
        stat = ends.source.stat()
    except SourceMissing:
        raise LocalFileRemoved("the source was removed while the transfer ran") from None
    if stat.validator != ends.validator:
        raise SourceChanged("the source changed while the transfer ran")


def _check_source_checksum(record: Record, crc: int | None) -> None:
    algorithm, _, digest = record.fields.get("source_checksum", "").partition(":")
    if crc is not None and algorithm == "crc64nvme" and digest != f"{crc:016x}":
        raise ChecksumMismatch(f"the source's store says crc64nvme {digest}, the bytes that arrived have {crc:016x}")


def _expect_checksum_before(held: Held, ends: Endpoints) -> None:
    """The user's checksum, before anything is visible where the store allows."""
    if ends.spec.checksum is None or not isinstance(ends.destination, HashesUpload):
        return
    algorithm, _, wanted = ends.spec.checksum.partition(":")

    def passed(count: int) -> None:
        held.check()
        held.passed(count)

    try:
        found = ends.destination.hash_upload(ends.upload, algorithm, passed)
    except UploadNotFound:
        return  # a repeated commit: complete_upload finds the file it made
    _compare(algorithm, wanted, found)


def _expect_checksum_after(deps: Deps, held: Held, ends: Endpoints, *, existed: bool) -> None:
    """The user's checksum by reading back; wrong bytes are removed, unless they replaced an object (that is lost)."""
    if ends.spec.checksum is None or isinstance(ends.destination, HashesUpload):
        return
    if not isinstance(ends.destination, ReadsBack):
        raise ChecksumMismatch("this destination cannot be read back, so the expected checksum cannot be proven")
    if not deps.ledger.note(held.lease, {"committed": 1}):
        raise StopRequested("lost")
    algorithm, _, wanted = ends.spec.checksum.partition(":")
    source = ends.destination.as_source()
    digest, buffer = hashlib.new(algorithm), memoryview(bytearray(BUFFER_BYTES))
    fresh = source.stat()
    if fresh.size_bytes:
        body = source.read_range(ByteRange(0, fresh.size_bytes), validator=fresh.validator)
        try:
            while count := body.readinto(buffer):
                held.check()
                held.passed(count)
                digest.update(buffer[:count])
        finally:
            body.close()
    try:
        _compare(algorithm, wanted, digest.hexdigest())
    except ChecksumMismatch as mismatch:
        if not existed:
            _remove_wrong(held, ends, ends.destination, mismatch)
        raise


def _remove_wrong(held: Held, ends: Endpoints, destination: ReadsBack, mismatch: ChecksumMismatch) -> None:
    """What is wrong must not stay under the final name: tried as often as a commit, and then said."""
    try:
        destination.remove()
    except ProviderError as exc:
        if exc.retryable and held.lease.attempt < ends.spec.retry.prepare_attempts:
            raise
        raise ChecksumMismatch(f"{mismatch}; the wrong object could not be removed ({exc.code})") from exc


def _compare(algorithm: str, wanted: str, found: str) -> None:
    if wanted != found:
        raise ChecksumMismatch(f"expected {algorithm} {wanted}, the object has {found}")


def _verified_by(ends: Endpoints, stat: ObjectStat, crc: int | None) -> str:
    if ends.spec.checksum is not None:
        return ends.spec.checksum.partition(":")[0]
    if crc is not None and stat.checksum == f"crc64nvme:{crc:016x}":
        return "crc64nvme"
    if stat.compared:
        return stat.compared
    if not stat.validator.pins and stat.metadata.get("verified") == "no":
        return "no"  # nobody could be asked
    return "etag" if stat.etag else "size"


def _failed(deps: Deps, lease: Lease, record: Record, exc: Exception) -> str:
    budget = budget_of(record)
    restart = isinstance(exc, SourceChanged) and record.spec.on_source_change == "restart"
    step = Step("commit_failed", "failed", "qc", budget.prepare_attempts, budget)
    verdict = pass_verdict(deps, lease, exc, step, restart=restart)
    state = deps.ledger.complete_done(
        lease, verdict.outcome, delay_ms=verdict.delay_ms, reason=verdict.reason, data=verdict.error
    )
    if state == "failed" and isinstance(exc, ChecksumMismatch):
        _drop_bad(deps, record)
    return verdict.text


def _drop_bad(deps: Deps, record: Record) -> None:
    """Bytes that are proven wrong are no partial file worth keeping: a retry must start from nothing."""
    upload = record.session
    if upload is None:
        return
    try:
        destination = deps.endpoints.open(record).destination
        if not isinstance(destination, OpenedElsewhere):
            destination.abort_upload(UploadId(upload))
    except Exception as exc:
        log.warning("bad_upload_not_dropped", transfer_id=record.transfer_id, error=type(exc).__name__)
