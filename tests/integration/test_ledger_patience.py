"""What must not go on for ever, what must not end too early, and what must not be said twice."""

from __future__ import annotations

import threading

import pytest

from orchestrator.events import follow_events
from orchestrator.ledger import new_nonce
from orchestrator.moves import move
from orchestrator.records import Lease
from tests.integration.ledger_world import ERROR, LEASE_MS, P, World
from tests.servers.process import wait_until

DAY_MS = 86_400_000


def test_events_go_on_until_a_cancel_is_announced(world: World) -> None:
    transfer_id, _ = world.running()
    world.ledger.steer(transfer_id, "cancel")
    kinds: list[str] = []
    reader = threading.Thread(target=lambda: kinds.extend(e.kind for e in follow_events(world.ledger, transfer_id)))

    reader.start()
    reader.join(1.2)  # longer than one read blocks
    granted = world.ledger.abort_claim(transfer_id, "control", new_nonce())
    assert isinstance(granted, tuple)
    world.ledger.aborted(granted[0], fine=True)

    wait_until(lambda: not reader.is_alive(), "the reader has come to the end")
    assert kinds[-1] == "cancelled"


@pytest.mark.parametrize("action", ["resume", "retry", "cancel"])
def test_steering_repeated_after_a_lost_reply_answers_the_same(world: World, action: str) -> None:
    transfer_id = world.failed() if action == "retry" else world.submit(paused=True)
    nonce = new_nonce()

    first, second = (move("steer")(world.client, P, transfer_id, action, DAY_MS, nonce) for _ in range(2))

    assert first == second
    assert first[0] == b"ok"
    assert world.ledger.steer(transfer_id, action)[0] == "no"


def test_a_part_in_flight_when_a_transfer_fails_leaves_no_key_for_ever(world: World) -> None:
    transfer_id, _ = world.running()
    bad, slow = world.lease(transfer_id, 1), world.lease(transfer_id, 2)
    world.ledger.release(bad, "fail", error=ERROR)

    world.ledger.renew([(slow, 5)], "worker")
    world.pass_time(7 * DAY_MS + 1)
    world.sweep()

    assert all(left > 0 for left in world.keys_of(transfer_id).values()), world.keys_of(transfer_id)


def test_time_spent_paused_uses_up_no_retry_budget(world: World) -> None:
    transfer_id, _ = world.running()
    world.ledger.release(world.lease(transfer_id), "retry", error=ERROR)
    world.ledger.steer(transfer_id, "pause")
    world.pass_time(2 * DAY_MS)

    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    world.prepared(world.prepare_lease(transfer_id))

    again = world.lease(transfer_id)
    assert (again.member, again.attempt) == ("1", 2)
    assert again.elapsed_ms < LEASE_MS


def test_time_spent_waiting_uses_up_no_retry_budget(world: World) -> None:
    transfer_id, _ = world.running()
    world.ledger.release(world.lease(transfer_id), "retry", error=ERROR)
    again = world.lease(transfer_id, 2)
    world.ledger.release(again, "wait", delay_ms=5000, reason="disk_full", error=ERROR)
    world.pass_time(2 * DAY_MS)

    lanes = [each.args[3] for each in world.sweep() if each.kind == "part"]

    assert world.lease(transfer_id, lanes[0]).elapsed_ms < LEASE_MS


def test_a_commit_interrupted_by_a_pause_has_its_whole_budget_again(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    world.committed(world.commit_lease(transfer_id), "retry", delay_ms=1000, data=ERROR)
    world.ledger.steer(transfer_id, "pause")
    world.pass_time(2 * DAY_MS)

    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    world.prepared(world.prepare_lease(transfer_id), parts=1)

    assert world.commit_lease(transfer_id).elapsed_ms < LEASE_MS


def _prepare_and_die(world: World, transfer_id: str, name: str) -> Lease:
    lease = world.prepare_lease(transfer_id, name)
    world.beat(name)
    return lease


def test_a_preparation_that_kills_its_worker_every_time_fails_the_transfer(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()

    for number in range(world.ledger.settings.max_deaths):
        assert world.state(transfer_id) == "preparing"
        _prepare_and_die(world, transfer_id, f"victim-{number}")
        world.pass_time(2 * LEASE_MS)
        world.sweep()

    assert world.state(transfer_id) == "failed"
    assert world.record(transfer_id).data("error")["code"] == "preparation_poisonous"
    assert world.slots() == set()


def test_a_commit_that_kills_its_worker_every_time_fails_the_transfer(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)

    for number in range(world.ledger.settings.max_deaths):
        assert world.state(transfer_id) != "failed"
        world.beat(f"victim-{number}")
        world.ledger.complete_claim(transfer_id, 1, f"victim-{number}", new_nonce())
        world.pass_time(2 * LEASE_MS)
        world.sweep()

    assert world.state(transfer_id) == "failed"
    assert world.record(transfer_id).data("error")["code"] == "commit_poisonous"
    assert world.ledger.steer(transfer_id, "retry") == ("ok", "queued")


def test_a_preparation_that_only_lost_its_lease_is_no_death(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()

    for _ in range(3 * world.ledger.settings.max_deaths):
        world.prepare_lease(transfer_id, "slow")
        world.pass_time(2 * LEASE_MS, alive="slow")
        world.sweep()

    assert world.state(transfer_id) == "preparing"
