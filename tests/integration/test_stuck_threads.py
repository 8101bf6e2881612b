"""Threads that do not move any more: their leases are let go, and at half the slots the process leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from orchestrator.records import Lease
from tests.integration.ledger_world import World
from tests.servers.process import wait_until
from workers.leases import Held, LeaseKeeper

LONG_AGO = 3600.0


@pytest.fixture
def left() -> threading.Event:
    return threading.Event()


@pytest.fixture
def keeper(world: World, left: threading.Event) -> Iterator[LeaseKeeper]:
    """A process of four threads; nothing is renewed but by ``renew_once``."""
    keeper = LeaseKeeper(world.ledger, "worker", slots=4, give_up=left.set)
    yield keeper
    keeper.close()


def held(keeper: LeaseKeeper, leases: list[Lease], stack: ExitStack) -> list[Held]:
    return [stack.enter_context(keeper.hold(each, sent=time.monotonic())) for each in leases]


def leased(world: World, count: int) -> list[Lease]:
    transfer_id, _ = world.running(parts=count, in_flight=count)
    return [world.lease(transfer_id, lane) for lane in range(1, count + 1)]


def test_a_lease_whose_thread_does_not_move_is_not_renewed_and_the_thread_is_told(
    world: World, keeper: LeaseKeeper
) -> None:
    with ExitStack() as stack:
        stuck, moving = held(keeper, leased(world, 2), stack)
        stuck.touched -= LONG_AGO
        renewed_at = stuck.renewed

        keeper.renew_once()

        assert (stuck.why, moving.why) == ("stalled", "")
        assert stuck.renewed == renewed_at < moving.renewed
        assert keeper.stuck == 1


def test_a_process_leaves_when_half_of_its_threads_are_stuck_and_hands_the_others_back(
    world: World, keeper: LeaseKeeper, left: threading.Event
) -> None:
    with ExitStack() as stack, ExitStack() as busy:
        for each in held(keeper, leased_again(world), stack):
            each.touched -= LONG_AGO
        (moving,) = held(keeper, leased(world, 1), busy)

        keeper.renew_once()
        wait_until(lambda: moving.why == "drain", "the thread that still moves is told to hand back")

        assert not left.is_set()
        busy.close()
        wait_until(left.is_set, "the process leaves")


def test_one_stuck_thread_of_four_does_not_end_the_process(
    world: World, keeper: LeaseKeeper, left: threading.Event
) -> None:
    with ExitStack() as stack:
        stuck, *_ = held(keeper, leased(world, 2), stack)
        stuck.touched -= LONG_AGO

        keeper.renew_once()

        assert not keeper.draining.is_set()
        assert not left.is_set()


def leased_again(world: World) -> list[Lease]:
    """Two leases of another transfer."""
    transfer_id, _ = world.running("other", parts=2, in_flight=2)
    return [world.lease(transfer_id, lane) for lane in (1, 2)]
