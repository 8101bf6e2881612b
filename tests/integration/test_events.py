"""Events of one transfer or of all, read from any position (RC-30 to RC-33, BN-07, BN-08)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator.connection import connect
from orchestrator.errors import InvalidSpec, TransferNotFound
from orchestrator.events import EVENTS_KEPT, FROM_START, KINDS, ONLY_NEW, Event, follow_events, order_of, read_events
from orchestrator.ledger import Ledger, new_nonce
from orchestrator.plan import Plan
from orchestrator.records import Lease
from orchestrator.settings import load_settings
from providers.base import PartReceipt, Validator
from tests.integration.ledger_world import DATA, ERROR, PART_BYTES, World
from tests.servers.valkey import Valkey


@contextmanager
def soon(act: Callable[[], object]) -> Iterator[None]:
    """Act in another thread while the body waits for what comes of it."""
    timer = threading.Timer(0.05, act)
    timer.start()
    yield
    timer.join()


def test_events_tell_the_story_of_a_transfer_in_order(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    world.committed(world.commit_lease(transfer_id), data={"etag": "x"})

    events = read_events(world.ledger, transfer_id)

    assert [each.kind for each in events] == ["queued", "probed", "started", "progress", "completed"]
    assert {each.transfer_id for each in events} == {transfer_id}
    assert [each.at_ms for each in events] == sorted(each.at_ms for each in events)
    assert events[3].data == {"done_bytes": 10, "parts_done": 1}
    assert events[4].data == {"etag": "x"}
    assert {each.kind for each in events} <= set(KINDS)


def test_reading_goes_on_after_any_position(world: World) -> None:
    transfer_id, _ = world.running()
    first, *rest = read_events(world.ledger, transfer_id)

    assert read_events(world.ledger, transfer_id, after=first.position) == rest
    assert read_events(world.ledger, transfer_id, after=rest[-1].position) == []
    assert read_events(world.ledger, transfer_id, limit=1) == [first]


def test_the_stream_of_a_shard_has_the_events_of_all_its_transfers(world: World) -> None:
    ids = [world.submit(name) for name in "abc"]

    events = read_events(world.ledger)

    assert [(each.transfer_id, each.kind) for each in events] == [(each, "queued") for each in ids]


def test_a_reader_that_waits_hears_at_once(world: World) -> None:
    transfer_id = world.submit()
    last = read_events(world.ledger, transfer_id)[-1].position

    with soon(lambda: world.ledger.steer(transfer_id, "pause")):
        (event,) = read_events(world.ledger, transfer_id, after=last, block_ms=10_000)

    assert event.kind == "paused"


def test_parts_that_finish_quickly_do_not_flood_the_stream(world: World) -> None:
    transfer_id, _ = world.running(parts=100, in_flight=1)

    world.move_all(transfer_id)

    assert world.events(transfer_id).count("progress") <= 20
    assert read_events(world.ledger, transfer_id)[-1].data["parts_done"] == 100


def test_progress_of_many_slow_parts_pushes_nothing_out_of_the_stream(world: World) -> None:
    transfer_id, _ = world.running(parts=500, in_flight=1)
    seq = 0
    while isinstance(claim := world.claim(transfer_id, 1, seq), Lease):
        world.pass_time(250)
        world.finish(claim)
        seq = claim.next_seq

    events = read_events(world.ledger, transfer_id)
    told = [each.data["parts_done"] for each in events if each.kind == "progress"]

    assert [each.kind for each in events[:3]] == ["queued", "probed", "started"]
    assert 99 <= len(told) <= 101
    assert told == sorted(told)
    assert told[-1] == 500


def test_progress_of_a_stream_without_a_size_is_told_less_and_less_often(world: World) -> None:
    transfer_id, _ = world.running(parts=0, stream=True, size_bytes=None)
    lease = world.lease(transfer_id)
    for number in range(1, 401):
        world.pass_time(250)
        count = number if number == 400 else 0
        assert world.ledger.stream_part(lease, PartReceipt(number, PART_BYTES, "e", 7), None, part_count=count).counted

    told = [each.data["parts_done"] for each in read_events(world.ledger, transfer_id) if each.kind == "progress"]

    assert told[:3] == [1, 2, 3]
    assert told[-1] == 400
    assert len(told) <= 100


def test_following_ends_with_the_transfer(world: World) -> None:
    transfer_id = world.completed()

    assert [each.kind for each in follow_events(world.ledger, transfer_id)][-1] == "completed"
    after = read_events(world.ledger, transfer_id)[-1].position
    assert list(follow_events(world.ledger, transfer_id, after=after)) == []


def test_following_a_cancelled_transfer_waits_for_its_clean_up(world: World) -> None:
    transfer_id, _ = world.running()
    world.ledger.steer(transfer_id, "cancel")
    granted = world.ledger.abort_claim(transfer_id, "w", new_nonce())
    assert isinstance(granted, tuple)
    lease: Lease = granted[0]
    stream = follow_events(world.ledger, transfer_id)
    seen = [next(stream).kind for _ in range(3)]

    with soon(lambda: world.ledger.aborted(lease, fine=False, delay_ms=1_000, error=ERROR)):
        last = list(stream)

    assert seen == ["queued", "probed", "started"]
    assert [(each.kind, each.data["code"]) for each in last] == [("cancelled", "transport")]


def test_following_what_is_not_there_says_so(world: World) -> None:
    with pytest.raises(TransferNotFound):
        list(follow_events(world.ledger, "s0-gone", after=FROM_START))


def only(world: World, transfer_id: str, kind: str) -> list[Event]:
    return list(follow_events(world.ledger, transfer_id, kinds=[kind], follow=False))


def test_probed_tells_of_the_source_and_started_of_the_total_and_where_it_goes_on(world: World) -> None:
    """RC-33: a resume at 40 %."""
    transfer_id, _ = world.running(parts=5, in_flight=1)
    first = world.lease(transfer_id)
    world.finish(first)
    world.finish(world.lease(transfer_id, seq=first.next_seq))
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    plan, about = Plan(5 * PART_BYTES, PART_BYTES, 5), {"name": "a.bin", "content_type": "text/plain", "ranges": True}
    pin = Validator.decode("etag:x")
    lease = world.prepare_lease(transfer_id)
    world.ledger.prepared(lease, plan, pin, parts_in_flight=1, queue=DATA, about=about)

    probed, started = only(world, transfer_id, "probed")[-1], only(world, transfer_id, "started")
    offset = {"done_bytes": 2 * PART_BYTES, "parts_done": 2}

    assert probed.data == {**about, "validator": "etag"}
    assert [each.data["done_bytes"] / each.data["size_bytes"] for each in started] == [0.0, 0.4]
    assert started[1].data == {**offset, "size_bytes": 50, "parts": 5, "part_size_bytes": PART_BYTES}
    assert [each.data for each in only(world, transfer_id, "paused")] == [offset]
    assert [each.data for each in only(world, transfer_id, "resumed")] == [offset]


def test_retrying_names_attempt_and_delay_and_waiting_its_reason(world: World) -> None:
    transfer_id, _ = world.running(in_flight=1)
    first = {**ERROR, "attempt": 1}
    world.ledger.release(world.lease(transfer_id), "retry", delay_ms=700, error=first)
    world.ledger.release(world.lease(transfer_id, seq=1), "wait", delay_ms=30_000, reason="disk_full", error=ERROR)

    assert [each.data for each in only(world, transfer_id, "retrying")] == [{**first, "delay_ms": 700}]
    assert [each.data for each in only(world, transfer_id, "waiting")] == [
        {**ERROR, "reason": "disk_full", "delay_ms": 30_000}
    ]


def test_hundreds_of_parts_that_fail_together_push_nothing_out_of_the_stream(world: World) -> None:
    transfer_id, _ = world.running(parts=10, in_flight=1)
    seq = 0
    for _ in range(400):
        lease = world.lease(transfer_id, seq=seq)
        world.ledger.release(lease, "retry", error=ERROR)
        seq = lease.next_seq
    world.pass_time(10_000)
    world.ledger.release(world.lease(transfer_id, seq=seq), "retry", error=ERROR)

    kinds = world.events(transfer_id)

    assert kinds[0] == "queued"
    assert kinds.count("retrying") == 101


def test_a_failure_is_told_with_code_number_and_message(world: World) -> None:
    assert [each.data for each in only(world, world.failed(), "failed")] == [ERROR]


def chatter(world: World, transfer_id: str, times: int) -> None:
    """Two events each time."""
    for _ in range(times):
        world.ledger.steer(transfer_id, "pause")
        world.ledger.steer(transfer_id, "resume")


def test_who_asks_for_more_than_is_kept_is_told_and_gets_the_rest(world: World) -> None:
    """BN-08."""
    transfer_id = world.submit()
    chatter(world, transfer_id, EVENTS_KEPT // 2 + 100)

    lost, *rest = follow_events(world.ledger, transfer_id, follow=False)

    assert (lost.kind, lost.data) == ("lost", {"oldest": rest[0].position})
    assert EVENTS_KEPT <= len(rest) <= EVENTS_KEPT + 101
    assert [each.kind for each in rest[-2:]] == ["paused", "resumed"]
    assert list(follow_events(world.ledger, transfer_id, after=lost.position, follow=False)) == rest
    assert list(follow_events(world.ledger, transfer_id, after=rest[2].position, follow=False)) == rest[3:]


def test_a_slow_reader_loses_nothing_that_is_kept_and_hears_of_what_is_not(world: World) -> None:
    transfer_id = world.submit()
    reader = follow_events(world.ledger, transfer_id)
    seen = [next(reader).kind]
    chatter(world, transfer_id, EVENTS_KEPT // 2 - 50)
    seen += [next(reader).kind for _ in range(EVENTS_KEPT - 100)]
    chatter(world, transfer_id, EVENTS_KEPT // 2 + 100)

    after = next(reader)

    assert seen == ["queued", *["paused", "resumed"] * (EVENTS_KEPT // 2 - 50)]
    assert after.kind == "lost"
    assert next(reader).position == after.data["oldest"]


@pytest.fixture
def sharded(client: redis.Redis, shared_valkey: Valkey) -> Iterator[Ledger]:
    settings = load_settings(redis_url=shared_valkey.url, host="here", shards=3, redis_retry_seconds=0)
    with connect(settings) as own:
        yield Ledger(own, settings)


def submit_to(ledger: Ledger, shard: int, name: int) -> str:
    identity = f"{shard:08x}{name:024x}"
    new = ledger.new_id(identity)
    return ledger.submit(new, destination=identity, spec="{}", direction="copy", priority=5).transfer_id


def test_all_transfers_of_all_shards_are_read_as_one_stream_from_any_position(sharded: Ledger) -> None:
    ids = [submit_to(sharded, each % 3, each) for each in range(30)]
    for each in ids[::4]:
        sharded.steer(each, "pause")

    events = list(follow_events(sharded, follow=False))

    assert sorted(each.transfer_id for each in events if each.kind == "queued") == sorted(ids)
    assert sorted(each.transfer_id for each in events if each.kind == "paused") == sorted(ids[::4])
    assert [each.at_ms for each in events] == sorted(each.at_ms for each in events)
    for shard in ("s0", "s1", "s2"):
        mine = [each.transfer_id for each in events if each.transfer_id.startswith(shard) and each.kind == "queued"]
        assert mine == [each for each in ids if each.startswith(shard)]
    for at in (0, 7, 31, 37):
        assert list(follow_events(sharded, after=events[at].position, follow=False)) == events[at + 1 :]
    assert list(follow_events(sharded, after=ONLY_NEW, follow=False)) == []


def test_more_than_one_read_of_uneven_shards_stays_in_order_and_whole(sharded: Ledger) -> None:
    quiet = submit_to(sharded, 1, 0)
    loud = submit_to(sharded, 0, 1)
    for _ in range(400):
        sharded.steer(loud, "pause")
        sharded.steer(loud, "resume")
    sharded.steer(quiet, "pause")

    events = list(follow_events(sharded, follow=False))

    assert [each.kind for each in events if each.transfer_id == loud] == ["queued", *["paused", "resumed"] * 400]
    assert [each.kind for each in events if each.transfer_id == quiet] == ["queued", "paused"]
    assert [each.at_ms for each in events] == sorted(each.at_ms for each in events)
    at = events[600].position
    assert list(follow_events(sharded, after=at, follow=False)) == events[601:]


def test_a_unix_time_is_a_position_and_an_event_has_one_in_both_streams(world: World) -> None:
    first = world.submit("a")
    whole = list(follow_events(world.ledger, follow=False))
    world.ledger.steer(first, "pause")

    (later,) = follow_events(world.ledger, first, after=whole[-1].position, follow=False)

    assert later.kind == "paused"
    assert later in follow_events(world.ledger, after=str(later.at_ms), follow=False)
    assert list(follow_events(world.ledger, after=str(later.at_ms + 1), follow=False)) == []


def test_only_the_kinds_asked_for_are_given(world: World) -> None:
    transfer_id = world.completed()

    found = follow_events(world.ledger, transfer_id, kinds={"completed", "queued"})

    assert [each.kind for each in found] == ["queued", "completed"]


@pytest.mark.parametrize(("field", "value"), [("kinds", ["done"]), ("after", "yesterday"), ("after", "1,2")])
def test_what_cannot_be_read_is_refused_at_once(world: World, field: str, value: object) -> None:
    how: dict[str, Any] = {field: value}

    with pytest.raises(InvalidSpec, match=field):
        follow_events(world.ledger, **how)


def test_following_all_ends_when_it_is_told_to(world: World) -> None:
    stop, found = threading.Event(), list[Event]()
    reader = threading.Thread(target=lambda: found.extend(follow_events(world.ledger, stop=stop)))
    reader.start()
    transfer_id = world.submit()

    stop.set()
    reader.join(60)

    assert not reader.is_alive()
    assert {each.transfer_id for each in found} <= {transfer_id}


def test_following_goes_on_when_redis_is_started_again(tmp_path: Path) -> None:
    with Valkey(tmp_path / "redis", appendfsync="always") as server:
        settings = load_settings(redis_url=server.url, host="here", redis_retry_seconds=20)
        with connect(settings) as own:
            world = World(own, Ledger(own, settings))
            transfer_id = world.submit()
            reader = follow_events(world.ledger)
            first = next(reader)
            found: list[Event] = []
            waits = threading.Thread(target=lambda: found.append(next(reader)))
            waits.start()

            server.restart()
            world.ledger.steer(transfer_id, "cancel")
            waits.join(60)

    assert (first.kind, [each.kind for each in found]) == ("queued", ["cancelled"])


def test_positions_grow_also_within_a_millisecond(world: World) -> None:
    chatter(world, world.submit(), 50)

    positions = [order_of(each.position) for each in follow_events(world.ledger, follow=False)]

    assert all(one < other for one, other in pairwise(positions))
