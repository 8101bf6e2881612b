"""``prepare``: look at the source, plan, reconcile with the store, open the upload, publish the first round."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import structlog

from orchestrator.errors import DuplicateTransfer
from orchestrator.ledger import new_nonce
from orchestrator.plan import Plan, PlannedParts, plan_parts, plan_stream
from orchestrator.records import Armed, Lease, Record
from orchestrator.spec import destination_identity
from orchestrator.states import State
from providers.base import (
    CopiesRange,
    HashesUpload,
    ListsParts,
    NeedsSourceHash,
    ObjectStat,
    OpenedElsewhere,
    ReadsBack,
    RepairsParts,
    ReportsOffset,
    UploadId,
    UploadPlan,
)
from providers.errors import (
    DestinationExists,
    InvalidValue,
    LengthUnknown,
    SourceChanged,
    Stalled,
    StopRequested,
    UploadNotFound,
)
from providers.filenames import FALLBACK, sanitise
from providers.local_paths import destination_identity as disk_identity
from workers.bootstrap import Deps
from workers.endpoints import Endpoints
from workers.intents import unnamed_uploads
from workers.leases import Held
from workers.source_hash import SourceHash, hash_source
from workers.verdict import Step, budget_of, pass_verdict

log = structlog.get_logger(__name__)

SILENT_SECONDS = 600.0
"""Patience for looking at both ends, reconciling and preallocating."""


class Skipped(Exception):
    """The destination exists and ``on_exists`` says to leave it."""

    def __init__(self, stat: ObjectStat) -> None:
        super().__init__("skipped")
        self.stat = stat


def run_prepare(deps: Deps, transfer_id: str, epoch: int) -> str:
    """Prepare a transfer once; answers what came of it, for people.

    A doubled message finds the lease taken or the state moved on, and leaves.
    """
    sent = time.monotonic()
    granted = deps.ledger.prepare_lease(transfer_id, epoch, deps.process, new_nonce())
    if isinstance(granted, str):
        return f"nothing to do ({granted})"
    lease, record = granted
    came_of_it = "stopped"
    with deps.keeper.hold(lease, sent=sent) as held:
        held.touch(patience_seconds=SILENT_SECONDS)
        try:
            came_of_it = _prepare(deps, held, record)
            deps.metrics.prepared(time.monotonic() - sent)
        except Skipped as skipped:
            came_of_it = "skipped: the destination exists"
            result = {"skipped": True, "size_bytes": skipped.stat.size_bytes}
            deps.ledger.prepare_failed(lease, "done", data=result)
        except Exception as exc:
            if held.why == "stalled":
                came_of_it = _failed(deps, lease, record, Stalled("nothing moved for too long"))
            elif not (held.stopped.is_set() or isinstance(exc, StopRequested)):
                came_of_it = _failed(deps, lease, record, exc)
            elif held.why == "drain":
                deps.ledger.prepare_failed(lease, "handed_back", data={})
                deps.dispatcher.prepare(transfer_id, epoch, record.fields["qc"])
                came_of_it = "handed back (drain)"
            else:
                came_of_it = f"stopped ({held.why})"
                if held.lost:
                    deps.metrics.lease_lost("prepare")
                elif deps.ledger.prepare_failed(lease, "handed_back", data={}) == State.CANCELLED:
                    deps.dispatcher.abort(transfer_id, record.fields["qc"])
    deps.dispatcher.send_all(deps.ledger.admit())
    return came_of_it


def _prepare(deps: Deps, held: Held, record: Record) -> str:
    lease = held.lease
    ends = deps.endpoints.open(record)
    stat = ends.source.stat()
    held.check()
    began = record.session is not None or record.number("done") > 0
    changed = began and stat.validator != record.validator
    if changed and ends.spec.on_source_change != "restart":
        raise SourceChanged("the source changed since the transfer began")
    ends = _settle_destination(deps, lease, ends, stat)
    _hold_real_destination(deps, lease, ends)
    if record.session is None:
        _check_existing(ends)
        _prepare_for_checksum(deps, lease, ends)
    plan = record.plan if record.number("n") and not changed else _plan(ends, stat)
    server_copy = _server_copy(ends, plan)
    ends = replace(ends, plan=plan, validator=stat.validator, server_copy=server_copy)
    hashed: SourceHash | None = None
    if isinstance(ends.destination, NeedsSourceHash):
        hashed = hash_source(deps, held, ends, stat, ends.destination.source_hash())
        held.touch(patience_seconds=SILENT_SECONDS)
    whole = replace(plan.upload, source_hash=hashed.digest if hashed else "")
    upload = _session(deps, held, ends, whole, fresh=changed or plan.stream)
    held.check()
    deps.ledger.note(
        lease,
        {
            "server_copy": int(server_copy),
            "session": upload,
            "source_checksum": stat.checksum or (f"crc64nvme:{hashed.crc64nvme}" if hashed else ""),
            "intent_at": 0,
        },
    )
    in_flight = min(ends.spec.parts_in_flight or deps.settings.parts_in_flight, max(plan.part_count, 1))
    sequential = ends.destination.limits.sequential
    if plan.stream or sequential:
        in_flight = 1
    queue = deps.part_queue(ends, plan)
    about = {"size_bytes": plan.size_bytes, "parts": plan.part_count, "part_size_bytes": plan.part_size_bytes}
    probed = {**about, "name": stat.name, "content_type": stat.content_type, "ranges": stat.accepts_ranges}
    armed = deps.ledger.prepared(
        lease, plan, stat.validator, parts_in_flight=in_flight, queue=queue, about=probed, sequential=sequential
    )
    log.info("transfer_prepared", transfer_id=record.transfer_id, answer=str(armed), **about)
    if isinstance(armed, Armed):
        deps.dispatcher.round(record.transfer_id, armed, queue, record.fields["qc"])
        count = plan.part_count or "an unknown number of"
        return f"planned {count} parts · round {armed.round_no} of {armed.lanes} lanes"
    if armed == "complete":
        deps.dispatcher.complete(record.transfer_id, record.number("round"), record.fields["qc"])
        return "all parts are stored already"
    return "stopped"


def _plan(ends: Endpoints, stat: ObjectStat) -> Plan:
    limits, wish = ends.destination.limits, ends.spec.part_size
    if ends.spec.size_bytes is not None and stat.size_bytes not in (None, ends.spec.size_bytes):
        raise SourceChanged(
            f"the source has {stat.size_bytes} bytes, not the {ends.spec.size_bytes} that were announced"
        )
    if stat.size_bytes is None:
        try:
            return plan_stream(None, limits, part_size_bytes=wish)
        except InvalidValue as exc:
            raise LengthUnknown(str(exc)) from None
    plan = plan_parts(stat.size_bytes, limits, part_size_bytes=wish)
    if plan.size_bytes == 0 or (stat.accepts_ranges and stat.validator.pins):
        return plan
    # What cannot be ranged or pinned is read once from the front, whatever the number of parts.
    return plan_stream(stat.size_bytes, limits, part_size_bytes=wish)


def _server_copy(ends: Endpoints, plan: Plan) -> bool:
    mode = ends.spec.copy_mode
    able = (
        mode != "relay"
        and isinstance(ends.destination, CopiesRange)
        and not plan.stream
        and bool(plan.size_bytes)
        and plan.part_count > 1
        and ends.destination.can_copy_from(ends.source)
    )
    if mode == "server" and not able:
        raise InvalidValue(
            "copy", "server", "auto or relay: this store cannot read that source, or it is a single part"
        )
    return able


def _settle_destination(deps: Deps, lease: Lease, ends: Endpoints, stat: ObjectStat) -> Endpoints:
    """What only the source could tell: the name inside a destination folder, and the permission bits of a file."""
    fields = ends.record.fields
    facts: dict[str, str | int] = {}
    if ends.spec.destination.endswith("/") and not fields.get("dest_name"):
        facts["dest_name"] = sanitise(stat.name or "") or FALLBACK
    if ends.destination_location.scheme.kind == "path" and stat.mode is not None and not fields.get("mode"):
        facts["mode"] = stat.mode
    if not facts:
        return ends
    deps.ledger.note(lease, facts)
    known = {name: str(value) for name, value in facts.items()}
    return deps.endpoints.open(Record(ends.record.transfer_id, {**fields, **known}))


def _hold_real_destination(deps: Deps, lease: Lease, ends: Endpoints) -> None:
    """Two paths may mean one file: the duplicate check once more, by what only the disk's host can know.

    Nor was the name in a destination folder known before.
    """
    at = ends.destination_location
    identities = [destination_identity(ends.spec, at)] if ends.record.fields.get("dest_name") else []
    if at.scheme.kind == "path":
        identities.append(f"disk:{at.host}:{disk_identity(at.key)}")
    for identity in identities:
        if other := deps.ledger.hold_destination(lease, identity):
            raise DuplicateTransfer(other)


def _check_existing(ends: Endpoints) -> None:
    """Refuse or skip before a byte is moved; the commit checks again where the store can."""
    if ends.spec.on_exists == "overwrite":
        return
    is_file = ends.destination_location.scheme.kind == "path"
    if ends.spec.on_exists is None and not is_file:
        return
    existing = ends.destination.existing()
    if existing is None:
        return
    if ends.spec.on_exists == "skip":
        raise Skipped(existing)
    raise DestinationExists(f"{ends.destination_location.shown} exists and on_exists is 'fail'")


def _prepare_for_checksum(deps: Deps, lease: Lease, ends: Endpoints) -> None:
    """Where wrong bytes are found only under the final name they are removed, unless something was there before."""
    if ends.spec.checksum is None or isinstance(ends.destination, HashesUpload):
        return
    if not isinstance(ends.destination, ReadsBack):
        allowed = "no checksum: this destination cannot be read back, so it could not be proven"
        raise InvalidValue("checksum", ends.spec.checksum, allowed)
    deps.ledger.note(lease, {"existed": int(ends.destination.existing() is not None)})


def _session(deps: Deps, held: Held, ends: Endpoints, whole: UploadPlan, *, fresh: bool) -> UploadId:
    """The open upload: the one of before where the store still has it, else a new one."""
    record, lease = ends.record, held.lease
    upload = record.session
    if upload is not None and not fresh:
        if _reconcile(deps, held, ends, upload):
            return upload
        deps.ledger.undo(lease, None)
    elif upload is not None or record.number("done"):
        if upload is not None and not isinstance(ends.destination, OpenedElsewhere):
            ends.destination.abort_upload(upload)
        deps.ledger.undo(lease, None)
    elif record.number("intent_at"):
        unnamed = unnamed_uploads(ends.destination, record)
        if len(unnamed) == 1:
            return _book(deps, lease, ends, unnamed[0])
    held.check()
    if not deps.ledger.note(lease, {"intent_at": int(time.time() * 1000), "validator": ends.validator.encode()}):
        raise StopRequested("lost")  # cancelled or paused just now: what is opened after that, nobody would drop
    return _book(deps, lease, ends, ends.destination.create_upload(whole))


def _book(deps: Deps, lease: Lease, ends: Endpoints, upload: UploadId) -> UploadId:
    shown = {"destination": ends.destination_location.shown, "upload": upload, "opened_at": int(time.time())}
    if not deps.ledger.note(lease, {"session": upload, "intent_at": 0}, session=shown):
        _drop_unbooked(deps, ends, upload)
        raise StopRequested("lost")
    return upload


def _drop_unbooked(deps: Deps, ends: Endpoints, upload: UploadId) -> None:
    """Cancelled or paused while the store opened the upload: it is in no record, so nobody else would drop it."""
    record = deps.ledger.record(ends.record.transfer_id)
    if record.session == upload or (record.session is None and record.state is State.PREPARING):
        return  # whoever prepares now has adopted it, or may
    ends.destination.abort_upload(upload)


def _reconcile(deps: Deps, held: Held, ends: Endpoints, upload: UploadId) -> bool:
    """Compare receipts with the store and undo what it lost. False when the whole session is gone."""
    receipts = deps.ledger.receipts(ends.record)
    try:
        lost = lost_parts(ends, upload, receipts)
    except UploadNotFound:
        return False
    held.check()
    if lost:
        log.warning("parts_undone", transfer_id=ends.record.transfer_id, count=len(lost))
        deps.ledger.undo(held.lease, lost)
    return True


def lost_parts(ends: Endpoints, upload: UploadId, receipts: list[Any]) -> list[int]:
    """Numbers of recorded parts the store does not hold as recorded. Raises UploadNotFound."""
    destination = ends.destination
    if isinstance(destination, ListsParts) and ends.plan.part_count > 1:
        held = {each.number: each for each in destination.list_parts(upload)}
        return [
            each.number
            for each in receipts
            if each.number not in held
            or held[each.number].size_bytes != each.size_bytes
            or held[each.number].etag.strip('"') != each.etag.strip('"')
        ]
    if isinstance(destination, ReportsOffset):
        stops = (
            {each.number: ends.plan.part(each.number).span.stop for each in receipts} if ends.plan.part_count else {}
        )
        held_bytes = destination.offset(upload, at=max(stops.values(), default=0), again=True)
        return [number for number, stop in stops.items() if stop > held_bytes]
    if isinstance(destination, RepairsParts):
        parts = PlannedParts(ends.plan, [each.number for each in receipts])
        return list(destination.lost_parts(upload, parts, receipts))
    return []


def _failed(deps: Deps, lease: Lease, record: Record, exc: Exception) -> str:
    budget = budget_of(record)
    verdict = pass_verdict(deps, lease, exc, Step("prepare_failed", "fail", "qc", budget.prepare_attempts, budget))
    deps.ledger.prepare_failed(
        lease, verdict.outcome, delay_ms=verdict.delay_ms, reason=verdict.reason, data=verdict.error
    )
    return verdict.text
