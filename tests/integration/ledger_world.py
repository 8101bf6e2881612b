"""A ledger with short words for what workers do, so that a test shows only what it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.events import read_events
from orchestrator.ledger import Ledger, Message, new_nonce
from orchestrator.plan import Plan
from orchestrator.records import Armed, Claim, Lease, Outcome, Record
from providers.base import PartReceipt, Validator
from tests.integration.ledger_time import let_pass

P = "hl:{s0}:"
PART_BYTES = 10
DATA, CONTROL = "haulage.data", "haulage.control"
ERROR: dict[str, Any] = {"code": "transport", "number": 106, "message": "reset"}
LEASE_MS = 10_000


def destination(name: str) -> str:
    """An identity as ``destination_identity`` makes them: hex digits."""
    return name.encode().hex().ljust(32, "0")


@dataclass(slots=True)
class World:
    """Each method is one thing a submitter, worker or sweeper does, with everything else left at a default."""

    client: Any  # a redis.Redis whose replies are bytes
    ledger: Ledger

    def submit(self, to: str = "d", **options: Any) -> str:
        """A new transfer that must be taken."""
        answer = self.ledger.submit(self.ledger.new_id(destination(to)), **self.options(to, **options))
        assert answer.outcome == "ok"
        return answer.transfer_id

    def options(self, to: str = "d", **options: Any) -> dict[str, Any]:
        return {"destination": destination(to), "spec": "{}", "direction": "copy", "priority": 5, **options}

    def prepare_lease(self, transfer_id: str, process: str = "control") -> Lease:
        granted = self.ledger.prepare_lease(transfer_id, self.record(transfer_id).number("epoch"), process, new_nonce())
        assert isinstance(granted, tuple), granted
        return granted[0]

    def prepared(self, lease: Lease, parts: int = 3, in_flight: int = 2, **options: Any) -> Armed | str:
        """``stream``, ``sequential`` and ``size_bytes`` say what is planned for."""
        stream = options.pop("stream", False)
        size = options.pop("size_bytes", parts * PART_BYTES)
        plan = Plan(size, PART_BYTES, parts, stream=stream)
        pin = Validator.decode("etag:x")
        return self.ledger.prepared(lease, plan, pin, parts_in_flight=in_flight, queue=DATA, about={}, **options)

    def running(self, to: str = "d", parts: int = 3, in_flight: int = 2, **options: Any) -> tuple[str, Armed]:
        """A transfer whose first round is armed and not yet published."""
        how = {k: options.pop(k) for k in ("stream", "sequential", "size_bytes") if k in options}
        transfer_id = self.submit(to, **options)
        self.ledger.admit()
        lease = self.prepare_lease(transfer_id)
        self.ledger.note(lease, {"session": "upload-1"}, session={"upload": "upload-1"})
        armed = self.prepared(lease, parts, in_flight, **how)
        assert isinstance(armed, Armed), armed
        return transfer_id, armed

    def claim(
        self,
        transfer_id: str,
        lane: int = 1,
        seq: int = 0,
        *,
        epoch: int | None = None,
        round_no: int | None = None,
        process: str = "worker",
        nonce: str = "",
    ) -> Claim:
        """By a lane of the present round and epoch, unless told otherwise."""
        if epoch is None or round_no is None:
            record = self.record(transfer_id)
            epoch = record.number("epoch") if epoch is None else epoch
            round_no = record.number("round") if round_no is None else round_no
        return self.ledger.claim(transfer_id, epoch, round_no, lane, seq, nonce=nonce or new_nonce(), process=process)

    def lease(self, transfer_id: str, lane: int = 1, seq: int = 0, *, process: str = "worker") -> Lease:
        """A claim that must be answered with a part."""
        claim = self.claim(transfer_id, lane, seq, process=process)
        assert isinstance(claim, Lease), claim
        return claim

    def finish(self, lease: Lease, *, size: int = PART_BYTES) -> Outcome:
        return self.ledger.finish(lease, PartReceipt(lease.part_number, size, f'"etag-{lease.member}"', 7), size)

    def move_all(self, transfer_id: str, lane: int = 1, seq: int = 0) -> None:
        """One lane moves every part that is left."""
        while isinstance(claim := self.claim(transfer_id, lane, seq), Lease):
            self.finish(claim)
            seq = claim.next_seq

    def commit_lease(self, transfer_id: str, *, round_no: int | None = None) -> Lease:
        granted = self.complete(transfer_id, round_no=round_no)
        assert isinstance(granted, tuple), granted
        return granted[0]

    def complete(self, transfer_id: str, *, round_no: int | None = None) -> tuple[Lease, Record] | Armed | str:
        current = self.record(transfer_id).number("round") if round_no is None else round_no
        return self.ledger.complete_claim(transfer_id, current, "control", new_nonce())

    def committed(self, lease: Lease, outcome: str = "completed", **options: Any) -> str:
        return self.ledger.complete_done(lease, outcome, data=options.pop("data", {}), **options)

    def completed(self, to: str = "d") -> str:
        transfer_id, _ = self.running(to, parts=1)
        self.move_all(transfer_id)
        assert self.committed(self.commit_lease(transfer_id)) == "completed"
        return transfer_id

    def failed(self, to: str = "d") -> str:
        """Failed with one part of three done."""
        transfer_id, _ = self.running(to)
        first = self.lease(transfer_id)
        self.finish(first)
        assert self.ledger.release(self.lease(transfer_id, 2), "fail", error=ERROR).state == "failed"
        return transfer_id

    def sweep(self) -> list[Message]:
        messages = self.ledger.sweep("sweeper")
        assert messages is not None
        return messages

    def kinds(self) -> list[str]:
        """What one sweep sends, by kind."""
        return [each.kind for each in self.sweep()]

    def pass_time(self, milliseconds: int, *, missed_sweeps: bool = False, alive: str = "") -> None:
        """``alive`` is a process whose heartbeat goes on meanwhile."""
        let_pass(self.client, milliseconds, missed_sweeps=missed_sweeps)
        if alive:
            self.beat(alive)

    def beat(self, process: str) -> None:
        seconds, micros = self.client.time()
        self.client.zadd(f"{P}procs", {process: seconds * 1000 + micros // 1000})

    def record(self, transfer_id: str) -> Record:
        return self.ledger.record(transfer_id)

    def state(self, transfer_id: str) -> str:
        return self.record(transfer_id).fields["state"]

    def reason(self, transfer_id: str) -> str:
        return self.record(transfer_id).fields["reason"]

    def slots(self, direction: str = "copy") -> set[str]:
        return {each.decode() for each in self.client.smembers(f"{P}slots:{direction}")}

    def events(self, transfer_id: str) -> list[str]:
        return [each.kind for each in read_events(self.ledger, transfer_id)]

    def keys_of(self, transfer_id: str) -> dict[str, int]:
        """Every key of a transfer and the ms it has left (-1: it stays)."""
        names = [each.decode() for each in self.client.scan_iter(f"*{transfer_id}*")]
        return {name: int(self.client.pttl(name)) for name in names}
