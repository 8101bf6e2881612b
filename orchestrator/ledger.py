"""The truth about transfers, in Redis: each method is one Lua move. See docs/architecture.md.

Every move may be repeated: a lost reply is answered by calling again. Time is the server's. Nothing outside
``lua/`` writes a transfer's state.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Required, TypedDict, Unpack

from orchestrator.connection import ledger_errors, refusal
from orchestrator.errors import LedgerUnavailable, SubmitFailed
from orchestrator.moves import Reply, move
from orchestrator.plan import Plan
from orchestrator.reading import LedgerReads, pairs, text_of
from orchestrator.records import (
    Armed,
    Claim,
    Drained,
    Full,
    Later,
    Lease,
    Outcome,
    Record,
    Stop,
    pack_receipt,
)
from orchestrator.spec import SCHEMA
from orchestrator.states import State
from providers.base import PartReceipt, Validator

_CONTROL_QUEUE = "haulage.control"


@dataclass(frozen=True, slots=True)
class Submitted:
    """``outcome``: ok | same (idempotency key) | dup | full. ``transfer_id`` is the one that is in the ledger."""

    outcome: str
    transfer_id: str


class Request(TypedDict, total=False):
    """What the move ``submit`` stores, and what it needs to admit. Times are unix milliseconds."""

    destination: Required[str]
    spec: Required[str]
    direction: Required[str]
    priority: Required[int]
    idempotency: str
    not_before_ms: int
    paused: bool
    control_queue: str
    tenant: str
    reference: str
    keep_partial: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """What one lease was told: still held, and in which state and epoch its transfer is."""

    held: bool
    state: str
    epoch: int
    wish: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Something the sweeper must send: a task's name and arguments, and its queue."""

    kind: str
    args: tuple[Any, ...]
    queue: str


def new_nonce() -> str:
    """64 random bits as 16 hex digits: after a failover a counter may repeat, this will not."""
    return secrets.token_hex(8)


class Ledger(LedgerReads):
    """All moves, and with them the reads. Built once per process and shared by its threads."""

    def new_id(self, destination: str) -> str:
        """An id that sorts by time, to the microsecond, and carries the shard of its destination.

        Queues order by milliseconds and then by id: what one thread submits in a row starts in that order.
        """
        shard = int(destination[:8], 16) % self.settings.shards
        return f"s{shard}-{time.time_ns() // 1000:014x}{secrets.token_hex(4)}"

    def _call(self, name: str, transfer_id: str, *args: str | bytes | int | float) -> Reply:
        with ledger_errors():
            return move(name)(self.redis, self.prefix(transfer_id), transfer_id, *args)

    # Submitting and steering

    def submit(self, transfer_id: str, **request: Unpack[Request]) -> Submitted:
        """Write the transfer, or say which one is already there. Raises SubmitFailed when Redis may not write it."""
        try:
            reply = self._call("submit", transfer_id, *self._submit_args(request))
        except LedgerUnavailable as exc:
            if exc.__cause__ is None:  # it did not answer, so calling again may help
                raise
            raise SubmitFailed(str(exc)) from exc
        return _submitted(transfer_id, reply)

    def submit_many(self, requests: Sequence[tuple[str, Request]]) -> list[Submitted | SubmitFailed]:
        """Write several in one round trip: one answer each. When Redis does not answer, any of them may be written."""
        calls = [(self.prefix(id_), (id_, *self._submit_args(request))) for id_, request in requests]
        with ledger_errors():
            replies = move("submit").many(self.redis, calls, keep_errors=True) if calls else []
        return [
            SubmitFailed(refusal(reply)) if isinstance(reply, Exception) else _submitted(id_, reply)
            for (id_, _), reply in zip(requests, replies, strict=True)
        ]

    def _submit_args(self, request: Request) -> tuple[str | int, ...]:
        return (
            request["destination"],
            request.get("idempotency", ""),
            request["spec"],
            request["direction"],
            request["priority"],
            request.get("not_before_ms", 0),
            int(request.get("paused", False)),
            self.settings.queue_capacity,
            request.get("control_queue", _CONTROL_QUEUE),
            SCHEMA,
            self._retention_ms,
            request.get("tenant", "default"),
            request.get("reference", ""),
            int(request.get("keep_partial", False)),
        )

    def admit(self) -> list[Message]:
        """Move queued transfers into free slots; answers the ``prepare`` messages to send."""
        messages = []
        with ledger_errors():
            for shard, prefix in enumerate(self.prefixes):
                slots = [each for pair in self.settings.slots_of(shard).items() for each in pair]
                reply = move("admit")(self.redis, prefix, self.settings.lease_ms, *slots)
                messages += [
                    Message("prepare", (text_of(reply[at]), reply[at + 1]), text_of(reply[at + 2]))
                    for at in range(0, len(reply), 3)
                ]
        return messages

    def steer(self, transfer_id: str, action: str) -> tuple[str, str]:
        """pause, resume, cancel or retry: (ok | wish | no | gone | dup, state or the other id)."""
        reply = self._call("steer", transfer_id, action, self._retention_ms, new_nonce())
        return _steered(reply)

    def steer_many(self, transfer_ids: Sequence[str], action: str) -> list[tuple[str, str] | LedgerUnavailable]:
        """Steer several in one round trip: one answer each, or the error of the one that Redis refused."""
        calls = [(self.prefix(each), (each, action, self._retention_ms, new_nonce())) for each in transfer_ids]
        with ledger_errors():
            replies = move("steer").many(self.redis, calls, keep_errors=True) if calls else []
        return [LedgerUnavailable(refusal(r)) if isinstance(r, Exception) else _steered(r) for r in replies]

    # Preparing

    def prepare_lease(self, transfer_id: str, epoch: int, process: str, nonce: str) -> tuple[Lease, Record] | str:
        """The right to prepare and the record, or ``busy``, ``later``, ``stop``."""
        reply = self._call("prep_lease", transfer_id, epoch, nonce, process, self.settings.lease_ms)
        if text_of(reply[0]) != "go":
            return text_of(reply[0])
        record = Record(transfer_id, pairs(reply[3]))
        elapsed = int(reply[2]) - (record.number("prep_first") or int(reply[2]))
        lease = Lease(transfer_id, "prep", text_of(reply[1]), record.number("prep_attempts"), elapsed, epoch)
        return lease, record

    def note(self, lease: Lease, fields: Mapping[str, str | int], *, session: Mapping[str, Any] | None = None) -> bool:
        """Write fields while preparing or committing; ``session`` books an open upload. False: stop, it was cancelled.

        After a cancel they are written all the same, so that the clean-up knows of an upload that was just opened.
        """
        flat = [text for pair in fields.items() for text in pair]
        shown = json.dumps(session) if session else ""
        reply = self._call("note", lease.transfer_id, lease.token, lease.member, shown, *flat)
        return text_of(reply[0]) == "ok" and text_of(reply[1]) in (State.PREPARING, State.COMPLETING)

    def hold_destination(self, lease: Lease, identity: str) -> str | None:
        """Reserve a second identity of the destination; answers the id of the transfer that has it already."""
        reply = self._call("hold_destination", lease.transfer_id, lease.token, identity)
        return text_of(reply[1]) if text_of(reply[0]) == "dup" else None

    def undo(self, lease: Lease, parts: Sequence[int] | None) -> bool:
        """Forget receipts the store no longer backs: some parts, or with None the whole session."""
        reply = self._call("undo", lease.transfer_id, lease.token, lease.member, int(parts is None), *(parts or ()))
        return text_of(reply[0]) == "ok"

    def prepared(
        self,
        lease: Lease,
        plan: Plan,
        validator: Validator,
        *,
        parts_in_flight: int,
        queue: str,
        about: Mapping[str, Any],
        sequential: bool = False,
    ) -> Armed | str:
        """Publish the plan and arm the first round; or ``complete`` when nothing is left, ``stop`` when fenced.

        ``about`` is what the event ``probed`` says of the source, beside the kind of its validator. ``sequential``:
        one lane, and only the lowest part that is missing may be claimed.
        """
        reply = self._call(
            "prep_done",
            lease.transfer_id,
            lease.token,
            "" if plan.size_bytes is None else plan.size_bytes,
            plan.part_size_bytes,
            plan.part_count,
            validator.encode(),
            parts_in_flight,
            queue,
            int(plan.stream),
            json.dumps({**about, "validator": validator.kind}),
            self.settings.lease_ms,
            int(sequential),
        )
        return _armed(reply) or text_of(reply[0])

    def prepare_failed(
        self, lease: Lease, outcome: str, *, delay_ms: int = 0, reason: str = "", data: Mapping[str, Any]
    ) -> str:
        """outcome: retry | wait | fail | done | handed_back. Answers the state, or ``fenced``."""
        args = (outcome, delay_ms, reason, json.dumps(data), self._retention_ms)
        reply = self._call("prep_fail", lease.transfer_id, lease.token, *args)
        return "fenced" if text_of(reply[0]) == "fenced" else text_of(reply[1])

    # Parts

    def claim(
        self, transfer_id: str, epoch: int, round_no: int, lane: int, seq: int, *, nonce: str, process: str
    ) -> Claim:
        """The next part for a lane. A call repeated with the same nonce gets the same part."""
        reply = self._call("claim", transfer_id, epoch, round_no, lane, seq, nonce, process, self.settings.lease_ms)
        match text_of(reply[0]):
            case "part":
                number, token, next_seq, attempt, first, session_no, now = reply[1:]
                return Lease(
                    transfer_id, str(number), text_of(token), attempt, now - first, epoch, next_seq, session_no
                )
            case "later":
                return Later(int(reply[1]))
            case "full":
                return Full()
            case "drained":
                return Drained()
            case _:
                return Stop(text_of(reply[1]))

    def renew(self, leases: Sequence[tuple[Lease, int | None]], process: str) -> list[Renewal]:
        """Renew in one round trip; the second of each pair is bytes received, for display."""
        calls: list[tuple[str, tuple[str | bytes | int | float, ...]]] = [
            (
                self.prefix(lease.transfer_id),
                (
                    lease.transfer_id,
                    lease.member,
                    lease.token,
                    process,
                    self.settings.lease_ms,
                    "" if received is None else received,
                ),
            )
            for lease, received in leases
        ]
        with ledger_errors():
            replies = move("renew").many(self.redis, calls) if calls else []
        return [
            Renewal(text_of(each[0]) == "ok", text_of(each[1]), int(each[2]), text_of(each[3]) if len(each) > 3 else "")
            for each in replies
        ]

    def finish(self, lease: Lease, receipt: PartReceipt, planned_bytes: int | None) -> Outcome:
        """Record the receipt. Safe to repeat; ``fenced`` once the part was claimed anew."""
        packed = pack_receipt(receipt, lease.tag, planned_bytes)
        reply = self._call(
            "finish",
            lease.transfer_id,
            lease.part_number,
            lease.token,
            packed,
            receipt.size_bytes,
            self.settings.lease_ms,
        )
        return _outcome(reply)

    def stream_part(
        self, lease: Lease, receipt: PartReceipt, planned_bytes: int | None, *, part_count: int = 0
    ) -> Outcome:
        """Record one part of a stream; ``part_count`` > 0 says this was the last and ends the lease."""
        packed = pack_receipt(receipt, lease.tag, planned_bytes)
        args = (receipt.number, packed, receipt.size_bytes, part_count)
        return _outcome(self._call("stream_part", lease.transfer_id, lease.token, *args))

    def release(
        self, lease: Lease, outcome: str, *, delay_ms: int = 0, reason: str = "", error: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Give a part back: retry | restart | handed_back | wait | fail. Answers the state and how many leases live."""
        reply = self._call(
            "release",
            lease.transfer_id,
            lease.member,
            lease.token,
            outcome,
            delay_ms,
            reason,
            json.dumps(error) if error else "",
            self.settings.lease_ms,
            self._retention_ms,
        )
        return Outcome(text_of(reply[0]), text_of(reply[1]), live_leases=int(reply[2]) if len(reply) > 2 else 0)

    # Completing and cleaning up

    def complete_claim(
        self, transfer_id: str, round_no: int, process: str, nonce: str
    ) -> tuple[Lease, Record] | Armed | str:
        """The right to commit; or a new round to publish; or ``wait``, ``busy``, ``over``."""
        reply = self._call("complete_claim", transfer_id, round_no, nonce, process, self.settings.lease_ms)
        if text_of(reply[0]) != "go":
            return _armed(reply) or text_of(reply[0])
        record = Record(transfer_id, pairs(reply[5]))
        lease = Lease(
            transfer_id, "fin", text_of(reply[1]), int(reply[2]), int(reply[4]) - int(reply[3]), record.number("epoch")
        )
        return lease, record

    def complete_done(
        self, lease: Lease, outcome: str, *, delay_ms: int = 0, reason: str = "", data: Mapping[str, Any]
    ) -> str:
        """outcome: completed | failed | retry | wait | restart | handed_back. Answers the state, or ``fenced``."""
        args = (outcome, delay_ms, reason, json.dumps(data), self._retention_ms)
        reply = self._call("complete_done", lease.transfer_id, lease.token, *args)
        return "fenced" if text_of(reply[0]) == "fenced" else text_of(reply[1])

    def abort_claim(self, transfer_id: str, process: str, nonce: str) -> tuple[Lease, Record] | str:
        """The right to clean up after a cancel; or ``wait``, ``busy``, ``over``."""
        reply = self._call("abort_claim", transfer_id, nonce, process, self.settings.lease_ms)
        if text_of(reply[0]) != "go":
            return text_of(reply[0])
        record = Record(transfer_id, pairs(reply[3]))
        return Lease(transfer_id, "abort", text_of(reply[1]), int(reply[2]), 0, record.number("epoch")), record

    def aborted(self, lease: Lease, *, fine: bool, delay_ms: int = 0, error: Mapping[str, Any] | None = None) -> None:
        """Record how the clean-up went."""
        self._call("aborted", lease.transfer_id, lease.token, int(fine), delay_ms, json.dumps(error) if error else "")

    def forget_session(self, transfer_id: str) -> bool:
        """What the transfer left at the store was aborted by hand. False, and nothing changed, if it is not over."""
        return text_of(self._call("forget_session", transfer_id)[0]) == "ok"

    # Sweeping

    def sweep(self, process: str, *, limit: int = 200) -> list[Message] | None:
        """One pass over all that is due, ``limit`` transfers a round trip. None when another process is at it."""
        settings, messages, swept = self.settings, [], False
        gap_ms = int(3 * max(settings.sweep_seconds, 1) * 1000)
        lock_ms = int(max(2 * settings.sweep_seconds, 0.5) * 1000)
        with ledger_errors():
            for prefix in self.prefixes:
                seen: set[str] = set()
                full = True
                while full:
                    reply = move("sweep_start")(self.redis, prefix, process, settings.lease_ms, gap_ms, lock_ms, limit)
                    if text_of(reply[0]) == "busy":
                        break
                    swept = True
                    due = [text_of(each) for each in reply[3:]]
                    ids = [each for each in due if each not in seen]
                    seen.update(ids)
                    full = len(due) == limit and bool(ids)
                    rest = (settings.lease_ms, settings.max_deaths, reply[1], self._retention_ms, 30_000)
                    answers = move("sweep").many(self.redis, [(prefix, (each, *rest)) for each in ids]) if ids else []
                    for transfer_id, answer in zip(ids, answers, strict=True):
                        messages += list(_messages(transfer_id, answer))
        return messages if swept else None

    @property
    def _retention_ms(self) -> int:
        return self.settings.retention_seconds * 1000


def _messages(transfer_id: str, flat: Sequence[Reply]) -> Iterable[Message]:
    rest = iter(flat)
    for kind in rest:
        match text_of(kind):
            case "prepare":
                epoch, queue = next(rest), text_of(next(rest))
                yield Message("prepare", (transfer_id, epoch), queue)
            case "part":
                epoch, round_no, lane, seq, queue = (next(rest) for _ in range(5))
                yield Message("part", (transfer_id, epoch, round_no, lane, seq), text_of(queue))
            case "complete":
                round_no, queue = next(rest), text_of(next(rest))
                yield Message("complete", (transfer_id, round_no), queue)
            case "abort":
                yield Message("abort", (transfer_id,), text_of(next(rest)))
            case name:
                yield Message(name, (), "")


def _submitted(transfer_id: str, reply: Reply) -> Submitted:
    return Submitted(text_of(reply[0]), text_of(reply[1]) if len(reply) > 1 else transfer_id)


def _steered(reply: Reply) -> tuple[str, str]:
    return text_of(reply[0]), text_of(reply[1]) if len(reply) > 1 else ""


def _outcome(reply: Reply) -> Outcome:
    match text_of(reply[0]):
        case "ok" | "again" as answer:
            return Outcome(answer, text_of(reply[4]), int(reply[1]), int(reply[2]), bool(int(reply[3])))
        case answer:
            return Outcome(answer, text_of(reply[1]), live_leases=int(reply[2]) if len(reply) > 2 else 0)


def _armed(reply: Reply) -> Armed | None:
    return Armed(int(reply[1]), int(reply[2]), int(reply[3])) if text_of(reply[0]) == "armed" else None
