"""Any order of moves, any message lost, doubled or late: the ledger's promises hold on a real Valkey.

A hypothesis state machine plays a fleet that is clumsy in every way it can think of. Time never passes by itself:
``let_pass`` makes everything older. After each step the promises are checked; at the end of each run whatever is left
must still come to ``completed`` in a bounded number of sweeps. ``LEDGER_EXAMPLES`` asks for a longer search.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.connection import connect
from orchestrator.ledger import Ledger, Message, new_nonce
from orchestrator.plan import Plan
from orchestrator.records import Armed, Lease, Stop
from orchestrator.settings import Settings, load_settings
from orchestrator.states import State, allowed
from providers.base import PartReceipt, Validator
from tests.integration.event_paths import check_path
from tests.integration.ledger_time import let_pass
from tests.servers.valkey import Valkey

P = "hl:{s0}:"
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "25"))
STEPS = 50
PART_BYTES = 10
SLOTS = 2
LEASE_MS = 10_000
AT_WORK = {State.PREPARING, State.RUNNING, State.WAITING, State.COMPLETING}
FINAL_EVENTS = {"completed", "cancelled"}
QUEUE = "haulage.data"

picks = st.integers(0, 10_000)
destinations = st.sampled_from(["a" * 32, "b" * 32])
delays = st.sampled_from([0, 400, 3 * LEASE_MS])
ERROR = {"code": "transport", "number": 106, "message": "the line went dead"}


@dataclass(slots=True)
class Known:
    """What the machine itself knows of a transfer; everything else is read from Valkey."""

    transfer_id: str
    destination: str
    part_count: int
    parts_in_flight: int
    size_bytes: int
    tokens: set[str] = field(default_factory=set)
    completions: int = 0
    seen: Seen | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A transfer as it stands in Valkey."""

    fields: dict[str, str]
    receipts: dict[int, bytes]
    leases: dict[str, float]
    owners: dict[str, str]
    backlog: set[int]
    tickets: dict[str, str]
    events: list[str]
    positions: list[str]

    @property
    def state(self) -> State:
        return State(self.fields["state"])

    def number(self, name: str) -> int:
        return int(self.fields.get(name) or 0)

    @property
    def parts_leased(self) -> set[int]:
        return {int(member) for member in self.leases if member.isdigit()}


class Fleet(RuleBasedStateMachine):
    """Submitters, workers and sweepers that may all die, stall and repeat themselves at any point."""

    def __init__(self, client: redis.Redis, ledger: Ledger) -> None:
        super().__init__()
        self.client: Any = client  # its replies are bytes
        self.ledger = ledger
        client.flushall()
        self.known: list[Known] = []
        self.messages: list[Message] = []
        self.leases: list[Lease] = []
        self.undone = False

    # Submitting and steering

    @initialize(destination=destinations, part_count=st.integers(1, 6), parts_in_flight=st.integers(1, 3))
    def begin(self, destination: str, part_count: int, parts_in_flight: int) -> None:
        self.submit(destination, part_count, parts_in_flight, 0, 5, False, False)
        self.admit()

    @precondition(lambda self: len(self.known) < 4)
    @rule(
        destination=destinations,
        part_count=st.integers(1, 6),
        parts_in_flight=st.integers(1, 3),
        short=st.integers(0, PART_BYTES - 1),
        priority=st.integers(0, 9),
        paused=st.booleans(),
        keep=st.booleans(),
    )
    def submit(
        self,
        destination: str,
        part_count: int,
        parts_in_flight: int,
        short: int,
        priority: int,
        paused: bool,
        keep: bool,
    ) -> None:
        live = [each for each in self.known if each.destination == destination and not self.look(each).state.ended]
        transfer_id = self.ledger.new_id(destination)

        answers = [
            self.ledger.submit(
                transfer_id,
                destination=destination,
                spec='{"notify":{"task":"app.ended"}}',
                direction="copy",
                priority=priority,
                paused=paused,
                keep_partial=keep,
            )
            for _ in range(2)
        ]

        assert answers[0] == answers[1]
        if live:
            assert (answers[0].outcome, answers[0].transfer_id) == ("dup", live[0].transfer_id)
        else:
            assert (answers[0].outcome, answers[0].transfer_id) == ("ok", transfer_id)
            size = part_count * PART_BYTES - short
            self.known.append(Known(transfer_id, destination, part_count, parts_in_flight, size))

    @rule()
    def admit(self) -> None:
        self.messages += self.ledger.admit()

    @precondition(lambda self: self.known)
    @rule(pick=picks, action=st.sampled_from(["pause", "resume", "cancel", "retry", "resume"]))
    def steer(self, pick: int, action: str) -> None:
        known = self.pick(self.known, pick)
        before = self.look(known)
        answer, said = self.ledger.steer(known.transfer_id, action)
        after = self.look(known)
        if answer == "ok":
            assert after.state == said
        else:
            assert after.state == before.state
        if answer == "dup":
            assert not self.look(self.of(said)).state.ended

    # Messages

    @precondition(lambda self: self.messages)
    @rule(pick=picks)
    def deliver(self, pick: int) -> None:
        self.handle(self.messages.pop(pick % len(self.messages)))

    @precondition(lambda self: self.messages)
    @rule(pick=picks, count=st.integers(1, 4))
    def deliver_and_do_well(self, pick: int, count: int) -> None:
        for _ in range(min(count, len(self.messages))):
            self.do_well(self.messages.pop(pick % len(self.messages)))

    @precondition(lambda self: self.messages)
    @rule(pick=picks)
    def deliver_twice(self, pick: int) -> None:
        message = self.messages.pop(pick % len(self.messages))
        first, second = self.handle(message), self.handle(message)
        if message.kind == "part" and isinstance(first, Lease):
            assert isinstance(second, Stop)

    @precondition(lambda self: self.messages)
    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        self.messages.pop(pick % len(self.messages))

    @precondition(lambda self: self.known)
    @rule(
        pick=picks, epoch=st.integers(-1, 1), round_no=st.integers(-1, 1), lane=st.integers(1, 3), seq=st.integers(0, 3)
    )
    def deliver_a_stray(self, pick: int, epoch: int, round_no: int, lane: int, seq: int) -> None:
        """A message of another epoch, round or place in line; sometimes it happens to be right."""
        known = self.pick(self.known, pick)
        seen = self.look(known)
        args = (seen.number("epoch") + epoch, seen.number("round") + round_no, lane, seq)
        answer = self.handle(Message("part", (known.transfer_id, *args), QUEUE))
        if epoch or round_no:
            assert isinstance(answer, Stop)

    @precondition(lambda self: self.known)
    @rule(pick=picks, round_no=st.integers(-1, 0))
    def complete_too_soon_or_again(self, pick: int, round_no: int) -> None:
        known = self.pick(self.known, pick)
        current = self.look(known).number("round")
        answer = self.handle(Message("complete", (known.transfer_id, current + round_no), QUEUE))
        assert round_no == 0 or not isinstance(answer, Armed)

    def handle(self, message: Message) -> object:
        """What a worker does with a message up to its first answer; the rest of its work is other rules."""
        nonce, process = new_nonce(), f"worker-{len(self.leases) % 3}"
        match message.kind:
            case "prepare":
                transfer_id, epoch = message.args
                return self.twice(lambda: self.ledger.prepare_lease(transfer_id, epoch, process, nonce))
            case "part":
                transfer_id, epoch, round_no, lane, seq = message.args
                claim = self.twice(
                    lambda: self.ledger.claim(transfer_id, epoch, round_no, lane, seq, nonce=nonce, process=process)
                )
                if isinstance(claim, Lease):
                    args = (transfer_id, epoch, round_no, lane, claim.next_seq)
                    self.messages.append(Message("part", args, QUEUE))
                return claim
            case "complete":
                transfer_id, round_no = message.args
                answer = self.ledger.complete_claim(transfer_id, round_no, process, nonce)
                if isinstance(answer, Armed):
                    self.publish(transfer_id, answer)
                    return answer
                if isinstance(answer, tuple):
                    again = self.ledger.complete_claim(transfer_id, round_no, process, nonce)
                    assert isinstance(again, tuple)
                    assert again[0].token == answer[0].token
                return self.granted(answer)
            case "abort":
                (transfer_id,) = message.args
                return self.twice(lambda: self.ledger.abort_claim(transfer_id, process, nonce))
            case _:
                self.messages += self.ledger.admit()
                return None

    def do_well(self, message: Message) -> None:
        """Deliver a message; the worker does its work and does it well."""
        answer = self.handle(message)
        self.promises_hold()
        match answer:
            case Lease(member="prep") as lease:
                self.do_prepared(lease)
            case Lease(member="fin") as lease:
                self.do_complete(lease)
            case Lease(member="abort") as lease:
                self.ledger.aborted(lease, fine=True)
            case Lease() as lease:
                self.do_finish(lease)
        self.promises_hold()

    def twice(self, call: Callable[[], object]) -> object:
        """Call, and call again as after a lost reply: a lease that was granted is granted again, the same."""
        answer = call()
        again = call()
        lease = answer[0] if isinstance(answer, tuple) else answer
        if isinstance(lease, Lease):
            repeated = again[0] if isinstance(again, tuple) else again
            assert isinstance(repeated, Lease)
            assert (repeated.member, repeated.token, repeated.next_seq) == (lease.member, lease.token, lease.next_seq)
        else:
            assert not isinstance(again, Lease)
        return self.granted(answer)

    def granted(self, answer: object) -> object:
        lease = answer[0] if isinstance(answer, tuple) else answer
        if isinstance(lease, Lease):
            tokens = self.of(lease.transfer_id).tokens
            assert lease.token not in tokens, "a token came twice"
            tokens.add(lease.token)
            self.leases.append(lease)
        return lease

    def publish(self, transfer_id: str, armed: Armed) -> None:
        """A chord: its lanes, and its body, which may come at any time here."""
        for lane in range(1, armed.lanes + 1):
            self.messages.append(Message("part", (transfer_id, armed.epoch, armed.round_no, lane, 0), QUEUE))
        self.messages.append(Message("complete", (transfer_id, armed.round_no), QUEUE))

    # Preparing

    @precondition(lambda self: self.held("prep"))
    @rule(pick=picks)
    def prepared(self, pick: int) -> None:
        self.do_prepared(self.pick(self.held("prep"), pick))

    def do_prepared(self, lease: Lease) -> None:
        known = self.of(lease.transfer_id)
        owned = self.owns(lease)
        self.ledger.note(lease, {"session": "upload-1"}, session={"upload": "upload-1"})
        armed = self.ledger.prepared(
            lease,
            Plan(known.size_bytes, PART_BYTES, known.part_count),
            Validator.decode("etag:x"),
            parts_in_flight=known.parts_in_flight,
            queue=QUEUE,
            about={},
        )
        if isinstance(armed, Armed):
            assert owned
            self.publish(lease.transfer_id, armed)
        elif armed == "complete":
            assert owned
            self.messages.append(Message("complete", (lease.transfer_id, self.look(known).number("round")), QUEUE))
        else:
            assert armed == "stop"

    @precondition(lambda self: self.held("prep"))
    @rule(pick=picks, outcome=st.sampled_from(["retry", "wait", "fail", "handed_back"]), delay_ms=delays)
    def prepare_failed(self, pick: int, outcome: str, delay_ms: int) -> None:
        lease = self.pick(self.held("prep"), pick)
        self.guarded(
            lease,
            lambda: self.ledger.prepare_failed(lease, outcome, delay_ms=delay_ms, reason="disk_full", data=ERROR),
        )

    @precondition(lambda self: self.held("prep") or self.held("fin"))
    @rule(pick=picks, parts=st.none() | st.sets(st.integers(1, 6), max_size=3))
    def undo(self, pick: int, parts: set[int] | None) -> None:
        lease = self.pick(self.held("prep") + self.held("fin"), pick)
        numbers = None if parts is None else sorted(parts & set(range(1, self.of(lease.transfer_id).part_count + 1)))
        owned = self.owns(lease)
        self.undone = True
        assert self.ledger.undo(lease, numbers) == owned
        if not owned:
            self.undone = False

    # Parts

    @precondition(lambda self: self.held_parts())
    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        self.do_finish(self.pick(self.held_parts(), pick))

    def do_finish(self, lease: Lease) -> None:
        """Also of a lease that ran out, was taken over, was finished before, or whose transfer is over."""
        known = self.of(lease.transfer_id)
        before, owned = self.look(known), self.owns(lease)
        stored = before.receipts.get(lease.part_number)
        size = min(PART_BYTES, known.size_bytes - (lease.part_number - 1) * PART_BYTES)

        answer = self.ledger.finish(lease, PartReceipt(lease.part_number, size, "e", 7), size)

        after = self.look(known)
        if before.state.final:
            assert answer.answer == "dead"
            assert after.receipts == before.receipts
        elif owned:
            assert answer.answer == "ok"
            assert set(after.receipts) == set(before.receipts) | {lease.part_number}
            if answer.last and answer.damaged:
                self.messages.append(Message("complete", (lease.transfer_id, before.number("round")), QUEUE))
        else:
            assert answer.answer == ("again" if stored and stored[:8] == lease.tag else "fenced")
            assert after == before, "a fenced finish changed something"

    @precondition(lambda self: self.held_parts())
    @rule(
        pick=picks,
        outcome=st.sampled_from(["retry", "retry", "handed_back", "wait", "restart", "fail"]),
        delay_ms=delays,
    )
    def release(self, pick: int, outcome: str, delay_ms: int) -> None:
        lease = self.pick(self.held_parts(), pick)
        error = {} if outcome == "handed_back" else ERROR
        self.guarded(
            lease,
            lambda: self.ledger.release(lease, outcome, delay_ms=delay_ms, reason="disk_full", error=error).answer,
        )

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        lease = self.pick(self.leases, pick)
        owned = self.owns(lease)
        (renewal,) = self.ledger.renew([(lease, 5)], "worker-0")
        assert renewal.held == owned

    # Completing and cleaning up

    @precondition(lambda self: self.held("fin"))
    @rule(
        pick=picks,
        outcome=st.sampled_from(["completed", "completed", "retry", "wait", "restart", "handed_back", "failed"]),
        delay_ms=delays,
    )
    def complete_done(self, pick: int, outcome: str, delay_ms: int) -> None:
        self.do_complete(self.pick(self.held("fin"), pick), outcome, delay_ms)

    def do_complete(self, lease: Lease, outcome: str = "completed", delay_ms: int = 0) -> None:
        known = self.of(lease.transfer_id)
        if outcome == "completed" and self.owns(lease) and len(self.look(known).receipts) < known.part_count:
            outcome = "restart"  # parts were undone under this lease: no worker commits then
        answer = self.guarded(
            lease,
            lambda: self.ledger.complete_done(lease, outcome, delay_ms=delay_ms, reason="disk_full", data=ERROR),
        )
        known.completions += answer == "completed"

    @precondition(lambda self: self.held("abort"))
    @rule(pick=picks, fine=st.booleans(), delay_ms=delays)
    def aborted(self, pick: int, fine: bool, delay_ms: int) -> None:
        lease = self.pick(self.held("abort"), pick)
        self.ledger.aborted(lease, fine=fine, delay_ms=delay_ms, error=None if fine else ERROR)

    # Time

    @rule(milliseconds=st.sampled_from([300, 1_100, LEASE_MS + 1, 35_000]), alive=st.booleans(), missed=st.booleans())
    def time_passes(self, milliseconds: int, alive: bool, missed: bool) -> None:
        let_pass(self.client, milliseconds, missed_sweeps=missed)
        if alive:
            self.beat()

    @rule()
    def sweep(self) -> None:
        self.do_sweep()

    def do_sweep(self) -> int:
        most = sum(each.parts_in_flight + 2 for each in self.known)
        messages = self.ledger.sweep("sweeper")
        assert messages is not None
        assert len(messages) <= most, "a sweep sends more than the lanes can use"
        self.messages += messages
        return len(messages)

    def beat(self) -> None:
        seconds, micros = self.client.time()
        self.client.zadd(f"{P}procs", {f"worker-{each}": seconds * 1000 + micros // 1000 for each in range(3)})

    # Looking

    def pick(self, among: Sequence[Any], pick: int) -> Any:
        return among[pick % len(among)]

    def of(self, transfer_id: str) -> Known:
        return next(each for each in self.known if each.transfer_id == transfer_id)

    def held(self, member: str) -> list[Lease]:
        """Every lease of this kind that was ever granted: the newest may be good, the others are zombies."""
        return [each for each in self.leases if each.member == member][-4:]

    def held_parts(self) -> list[Lease]:
        return [each for each in self.leases if each.member.isdigit()][-8:]

    def owns(self, lease: Lease) -> bool:
        text = self.client.hget(f"{P}o:{lease.transfer_id}", lease.member)
        return text is not None and text.decode().split("|")[0] == lease.token

    def guarded(self, lease: Lease, call: Callable[[], str]) -> str:
        """A move under a lease: it counts if the token is the current one, else it changes nothing."""
        known = self.of(lease.transfer_id)
        before, owned = self.look(known), self.owns(lease)
        answer = call()
        if answer == "fenced":
            assert self.look(known) == before, "a fenced move changed something"
        else:
            assert owned
        return answer

    def look(self, known: Known) -> Seen:
        name = known.transfer_id
        with self.client.pipeline(transaction=True) as pipe:
            pipe.hgetall(f"{P}t:{name}")
            pipe.hgetall(f"{P}r:{name}:0")
            pipe.zrange(f"{P}l:{name}", 0, -1, withscores=True)
            pipe.hgetall(f"{P}o:{name}")
            pipe.zrange(f"{P}b:{name}", 0, -1)
            pipe.hgetall(f"{P}k:{name}")
            pipe.xrange(f"{P}e:{name}")
            record, receipts, leases, owners, backlog, tickets, events = pipe.execute()
        return Seen(
            {key.decode(): value.decode() for key, value in record.items()},
            {int(index) + 1: packed for index, packed in receipts.items()},
            {member.decode(): score for member, score in leases},
            {member.decode(): text.decode() for member, text in owners.items()},
            {int(each) for each in backlog},
            {lane.decode(): text.decode() for lane, text in tickets.items()},
            [fields[b"kind"].decode() for _, fields in events],
            [position.decode() for position, _ in events],
        )

    # Promises

    @invariant()
    def promises_hold(self) -> None:
        seen = {each.transfer_id: self.look(each) for each in self.known}
        for known in self.known:
            now, before = seen[known.transfer_id], known.seen
            known.seen = now
            self.parts_add_up(known, now)
            self.events_add_up(now)
            assert known.completions == (now.state is State.COMPLETED)
            if before is not None:
                assert now.state == before.state or allowed(before.state, now.state), f"{before.state} -> {now.state}"
                assert now.number("epoch") >= before.number("epoch")
                assert now.number("round") >= before.number("round")
                if not self.undone and not now.state.final:
                    assert set(now.receipts) >= set(before.receipts), "a done part is not done any more"
        self.undone = False
        self.shared_things_are_held_by_the_living(seen)
        self.all_events_are_in_one_stream_too(seen)
        self.each_end_has_its_notice(seen)

    def parts_add_up(self, known: Known, now: Seen) -> None:
        assert set(now.leases) == set(now.owners)
        assert len(now.parts_leased) <= known.parts_in_flight
        if now.state.final:
            assert not now.receipts
            return
        done = set(now.receipts)
        assert now.number("done") == len(done)
        assert now.number("done_bytes") == sum(min(PART_BYTES, known.size_bytes - (p - 1) * PART_BYTES) for p in done)
        assert len(now.tickets) <= known.parts_in_flight
        untouched = set(range(now.number("next"), known.part_count + 1))
        kinds = [done, now.parts_leased, now.backlog, untouched]
        assert sorted(p for kind in kinds for p in kind) == list(range(1, known.part_count + 1)), (
            f"parts are lost or in two places: done, leased, backing off, untouched = {kinds}"
        )

    def events_add_up(self, now: Seen) -> None:
        """RC-31: what was told is a path in the graph of states; the end is told once, and last."""
        check_path(now.events, now.state)
        last = now.events[-1]
        if now.state in (State.COMPLETED, State.FAILED):
            assert last == now.state
        elif now.state is State.CANCELLED:
            assert last == "cancelled" or now.fields["cleanup"] == "pending"
        else:
            assert last not in {*FINAL_EVENTS, "failed"}

    def all_events_are_in_one_stream_too(self, seen: dict[str, Seen]) -> None:
        """In the order of time, at the same positions."""
        found: dict[str, list[str]] = {each: [] for each in seen}
        for position, fields in self.client.xrange(f"{P}events"):
            found[fields[b"id"].decode()].append(position.decode())
        assert found == {each: now.positions for each, now in seen.items()}

    def each_end_has_its_notice(self, seen: dict[str, Seen]) -> None:
        """Nobody takes them here. The name of each is its own."""
        ends = {key: sum(kind in (*FINAL_EVENTS, "failed") for kind in now.events) for key, now in seen.items()}
        booked = [each.decode().partition(".")[0] for each in self.client.zrange(f"{P}outbox", 0, -1)]
        assert {key: booked.count(key) for key in seen} == ends

    def shared_things_are_held_by_the_living(self, seen: dict[str, Seen]) -> None:
        with self.client.pipeline(transaction=True) as pipe:
            pipe.hgetall(f"{P}dest")
            pipe.smembers(f"{P}slots:copy")
            pipe.zrange(f"{P}queue:copy", 0, -1)
            held, slots, queue = pipe.execute()
        holders = {destination.decode(): transfer_id.decode() for destination, transfer_id in held.items()}
        living = {each.destination: each.transfer_id for each in self.known if not seen[each.transfer_id].state.ended}
        assert holders == living
        assert len(slots) <= SLOTS
        assert {seen[each.decode()].state for each in slots} <= AT_WORK
        assert {each.decode() for each in queue} == {key for key, now in seen.items() if now.state is State.QUEUED}

    # Nothing hangs, nothing spins

    def teardown(self) -> None:
        for known in self.known:
            if self.look(known).state is State.PAUSED:
                self.ledger.steer(known.transfer_id, "resume")
        self.promises_hold()
        for _ in range(20):
            if all(self.look(each).state.ended for each in self.known):
                break
            let_pass(self.client, LEASE_MS + 1)
            self.beat()
            self.do_sweep()
            self.promises_hold()
            self.messages += self.ledger.admit()
            self.promises_hold()
            self.work_off()
        states = {each.transfer_id: self.look(each).state for each in self.known}
        assert all(state.ended for state in states.values()), f"still not ended: {states}"
        self.clean_up_ends()

    def work_off(self) -> None:
        """Deliver every message, and what follows from it."""
        for _ in range(400):
            if not self.messages:
                return
            self.do_well(self.messages.pop(0))
        raise AssertionError("messages beget messages without end")

    def clean_up_ends(self) -> None:
        """Whatever was cancelled is cleaned up and announced; then nobody looks at anything any more."""
        for _ in range(8):
            let_pass(self.client, 6 * LEASE_MS)
            self.do_sweep()
            self.work_off()
        assert self.do_sweep() == 0
        assert self.client.zcard(f"{P}due") == 0
        for known in self.known:
            seen = self.look(known)
            assert seen.state is not State.CANCELLED or seen.events[-1] == "cancelled"


@pytest.mark.timeout(300)  # seconds; a busy machine takes its time over thousands of steps
def test_no_order_of_moves_breaks_a_promise_of_the_ledger(shared_valkey: Valkey) -> None:
    config: Settings = load_settings(
        redis_url=shared_valkey.url, copy_slots=SLOTS, lease_seconds=LEASE_MS / 1000, redis_retry_seconds=0
    )
    with redis.Redis.from_url(shared_valkey.url) as client, connect(config) as own:

        class Here(Fleet):
            def __init__(self) -> None:
                super().__init__(client, Ledger(own, config))

        search = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
        run_state_machine_as_test(Here, settings=search)
