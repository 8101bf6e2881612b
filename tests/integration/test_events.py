"""Events of one transfer or of all, read from any position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from orchestrator.errors import TransferNotFound
from orchestrator.events import FROM_START, KINDS, follow_events, read_events
from orchestrator.ledger import new_nonce
from orchestrator.records import Lease
from tests.integration.ledger_world import ERROR, World


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
