"""One task of a lane: claim the next part, move it, record it, and say whether the lane goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from orchestrator.ledger import new_nonce
from orchestrator.reading import planned_bytes
from orchestrator.records import Claim, Full, Later, Lease, Outcome, Stop
from orchestrator.spec import RetryBudget
from providers.base import Part, PartReceipt
from providers.errors import (
    CredentialExpired,
    SourceChanged,
    Stalled,
    StopRequested,
    UploadNotFound,
)
from workers.bootstrap import Deps
from workers.copy import move_part
from workers.endpoints import Endpoints
from workers.leases import Held
from workers.rows import LaneRow
from workers.stream import move_stream
from workers.verdict import Step, pass_verdict

log = structlog.get_logger(__name__)

_SHORT_WAIT_MS = 1000


@dataclass(frozen=True, slots=True)
class Ticket:
    """The address of a lane's next task."""

    transfer_id: str
    epoch: int
    round_no: int
    lane: int
    seq: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How the task ended: ``successor`` is the sequence number to publish, or None; ``queue`` where."""

    successor: int | None = None
    queue: str = ""


def run_lane(deps: Deps, ticket: Ticket, row: LaneRow, *, in_chord: bool) -> Ended:
    """Move parts until the quantum is used up or nothing is left. Never raises for a transfer's own faults.

    ``row`` hears what a monitor shows of it.
    """
    seq, began, queue = ticket.seq, time.monotonic(), ""
    while True:
        if deps.keeper.draining.is_set():
            row.why = row.why or "this worker leaves"
            return Ended(seq, queue or _queue_of(deps, ticket))
        sent = time.monotonic()
        claim = deps.ledger.claim(
            ticket.transfer_id,
            ticket.epoch,
            ticket.round_no,
            ticket.lane,
            seq,
            nonce=new_nonce(),
            process=deps.process,
        )
        match claim:
            case Lease():
                done, ends = _move(deps, claim, sent, row)
                seq = claim.next_seq
                queue = ends.queue if ends else queue
            case Later(wait_ms) if wait_ms <= _SHORT_WAIT_MS:
                deps.keeper.draining.wait(wait_ms / 1000)
                continue
            case _:
                row.why = row.why or _why(claim)
                return Ended()
        if done.last:
            if not in_chord or done.damaged:
                _complete(deps, ticket, ends)
            return Ended()
        if done.state not in ("running", "") or done.answer == "fenced":
            return Ended()
        if ends is None or time.monotonic() - began >= _quantum(deps, ends):
            return Ended(seq, queue or _queue_of(deps, ticket))


def _why(claim: Claim) -> str:
    """Why a task ended without a part, for people."""
    match claim:
        case Later(wait_ms):
            return f"all that is left waits {wait_ms / 1000:.0f} s"
        case Full():
            return "enough lanes are at work"
        case Stop("ticket" | "round"):
            return "another message was first"
        case Stop(state):
            return f"the transfer is {state}"
        case _:
            return "nothing left"


def _move(deps: Deps, lease: Lease, sent: float, row: LaneRow) -> tuple[Outcome, Endpoints | None]:
    ends: Endpoints | None = None
    with deps.keeper.hold(lease, sent=sent) as held:
        try:
            ends = deps.endpoints.of(lease.transfer_id, lease.epoch, lease.session_no)
            row.claimed(lease, ends)
            if lease.member == "0":
                return _stream(deps, held, ends, row), ends
            began = time.monotonic()
            part = ends.plan.part(lease.part_number)
            receipt = move_part(held, part, ends)
            outcome = deps.ledger.finish(lease, receipt, part.size_bytes)
            _stored(deps, lease, ends, part, time.monotonic() - began, outcome, row)
            _clean_up_after_cancel(deps, lease, ends, outcome)
            return outcome, ends
        except Exception as exc:
            # A stop beats the fault it made: it ends the wait for a silent server by closing the connection.
            if held.why == "stalled":
                outcome = _failed(deps, lease, ends, Stalled("no byte moved for too long"), row)
            elif held.stopped.is_set() or isinstance(exc, StopRequested):
                outcome = _hand_back(deps, held)
                log.info("part_handed_back", **_names(lease), why=held.why, answer=outcome.answer)
                deps.metrics.part_left(_direction(ends), "lost" if held.lost else "handed_back")
                row.left(lease, f"handed back ({held.why})")
            else:
                outcome = _failed(deps, lease, ends, exc, row)
        _clean_up_after_cancel(deps, lease, ends, outcome)
        return outcome, ends


def _stored(
    deps: Deps, lease: Lease, ends: Endpoints, part: Part, seconds: float, outcome: Outcome, row: LaneRow
) -> None:
    # A line for each of 10,000 parts is noise, and a fifth of what a small part costs.
    say = log.info if ends.plan.part_count <= deps.settings.quantum_above_parts else log.debug
    answer = outcome.answer
    say("part_stored", **_names(lease), size_bytes=part.size_bytes, duration_ms=int(seconds * 1000), answer=answer)
    if outcome.counted:
        row.stored(part.number, part.size_bytes, seconds)
        deps.metrics.part_stored(ends, part.size_bytes, seconds)
    else:
        row.left(lease, "stored too late, it did not count")
        deps.metrics.part_left(_direction(ends), "lost")


def _direction(ends: Endpoints | None) -> str:
    return ends.record.fields.get("direction", "") if ends else ""


def _names(lease: Lease) -> dict[str, str | int]:
    return {"transfer_id": lease.transfer_id, "part": lease.member, "attempt": lease.attempt}


def _hand_back(deps: Deps, held: Held) -> Outcome:
    if held.lost:
        return Outcome("fenced", "")
    return deps.ledger.release(held.lease, "handed_back")


def _failed(deps: Deps, lease: Lease, ends: Endpoints | None, exc: Exception, row: LaneRow) -> Outcome:
    budget = ends.spec.retry if ends else RetryBudget()
    restart = isinstance(exc, UploadNotFound) or (
        isinstance(exc, SourceChanged) and ends is not None and ends.spec.on_source_change == "restart"
    )
    if isinstance(exc, (UploadNotFound, CredentialExpired)):
        deps.endpoints.forget(lease.transfer_id)
    step = Step("part_failed", "fail", "q", budget.part_attempts, budget)
    verdict = pass_verdict(deps, lease, exc, step, restart=restart and lease.attempt < budget.part_attempts)
    released = deps.ledger.release(
        lease, verdict.outcome, delay_ms=verdict.delay_ms, reason=verdict.reason, error=verdict.error
    )
    deps.metrics.part_left(_direction(ends), verdict.outcome)
    row.left(lease, verdict.text)
    if released.state in ("failed", "waiting"):
        deps.dispatcher.send_all(deps.ledger.admit())
    return released


def _stream(deps: Deps, held: Held, ends: Endpoints, row: LaneRow) -> Outcome:
    outcome, began = Outcome("ok", "running"), time.monotonic()

    def record(receipt: PartReceipt, part_count: int) -> None:
        nonlocal outcome, began
        held.check()
        planned = planned_bytes(ends.plan, receipt.number)
        outcome = deps.ledger.stream_part(held.lease, receipt, planned, part_count=part_count)
        if not outcome.counted:
            held.stop("lost")
            held.check()
        began, seconds = time.monotonic(), time.monotonic() - began
        row.stored(receipt.number, receipt.size_bytes, seconds)
        deps.metrics.part_stored(ends, receipt.size_bytes, seconds)

    move_stream(held, ends, record)
    return outcome


def _complete(deps: Deps, ticket: Ticket, ends: Endpoints | None) -> None:
    if ends is not None:
        deps.dispatcher.complete(ticket.transfer_id, ticket.round_no, ends.control)


def _clean_up_after_cancel(deps: Deps, lease: Lease, ends: Endpoints | None, outcome: Outcome) -> None:
    """The last part in flight of a cancelled transfer starts the clean-up that waited for it."""
    if outcome.state == "cancelled" and outcome.live_leases == 0 and ends is not None:
        deps.dispatcher.abort(lease.transfer_id, ends.control)


def _quantum(deps: Deps, ends: Endpoints) -> float:
    settings = deps.settings
    return settings.quantum_seconds if ends.plan.part_count > settings.quantum_above_parts else 0.0


def _queue_of(deps: Deps, ticket: Ticket) -> str:
    return deps.ledger.record(ticket.transfer_id).fields.get("q", "")
