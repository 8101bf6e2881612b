"""A transfer from its submission to its end: each move of the ledger, each of its answers."""

from __future__ import annotations

import pytest

from orchestrator.connection import connect
from orchestrator.errors import LedgerCorrupt, LedgerUnavailable, TransferNotFound
from orchestrator.ledger import Ledger, Message, new_nonce
from orchestrator.moves import move
from orchestrator.records import Armed, Later, Lease, Stop
from orchestrator.settings import Settings, load_settings
from providers.base import UploadId
from tests.integration.ledger_world import CONTROL, ERROR, LEASE_MS, P, World, destination
from tests.servers.process import free_port

WEEK_MS = 7 * 86_400_000


# Submitting


def test_submit_repeated_after_a_lost_reply_is_one_transfer(world: World) -> None:
    transfer_id = world.ledger.new_id(destination("d"))

    answers = [world.ledger.submit(transfer_id, **world.options()) for _ in range(2)]

    assert [(each.outcome, each.transfer_id) for each in answers] == [("ok", transfer_id)] * 2
    assert world.ledger.list_ids() == [transfer_id]
    assert world.events(transfer_id) == ["queued"]


def test_a_second_live_transfer_to_one_destination_is_refused_with_the_first_ones_id(world: World) -> None:
    first = world.submit("d")

    answer = world.ledger.submit(world.ledger.new_id(destination("d")), **world.options("d"))

    assert (answer.outcome, answer.transfer_id) == ("dup", first)
    assert world.ledger.list_ids() == [first]


def test_a_destination_is_free_again_after_each_kind_of_end(world: World) -> None:
    world.completed("a")
    world.failed("b")
    world.ledger.steer(world.submit("c"), "cancel")

    assert {world.state(world.submit(name)) for name in "abc"} == {"queued"}


def test_an_idempotency_key_answers_the_first_transfer_also_after_its_end(world: World) -> None:
    first = world.submit("d", idempotency="k")
    world.ledger.steer(first, "cancel")

    again = world.ledger.submit(world.ledger.new_id(destination("d")), **world.options("d", idempotency="k"))
    other = world.submit("d", idempotency="k2")

    assert (again.outcome, again.transfer_id) == ("same", first)
    assert other != first


def test_an_idempotency_key_is_forgotten_with_the_retention(world: World) -> None:
    world.submit("d", idempotency="k")

    assert 0 < world.client.pttl(f"{P}idem:k") <= WEEK_MS


def test_a_full_queue_refuses_at_once_and_stores_nothing(world: World, settings: Settings) -> None:
    small = Ledger(world.ledger.redis, settings.model_copy(update={"queue_capacity": 2}))
    for name in "ab":
        small.submit(small.new_id(destination(name)), **world.options(name))

    refused = small.submit(small.new_id(destination("c")), **world.options("c"))
    other_direction = small.submit(small.new_id(destination("c")), **world.options("c", direction="upload"))

    assert (refused.outcome, other_direction.outcome) == ("full", "ok")
    assert len(world.ledger.list_ids()) == 3


# Admission


def test_each_direction_has_slots_of_its_own(world: World, settings: Settings) -> None:
    narrow = Ledger(world.ledger.redis, settings.model_copy(update={"copy_slots": 1, "upload_slots": 2}))
    copies = [world.submit(f"c{each}") for each in range(2)]
    uploads = [world.submit(f"u{each}", direction="upload") for each in range(3)]

    admitted = {message.args[0] for message in narrow.admit()}

    assert (len(admitted & set(copies)), len(admitted & set(uploads))) == (1, 2)
    assert narrow.admit() == []
    assert world.slots("upload") == admitted & set(uploads)


def test_no_more_are_at_work_in_all_shards_together_than_there_are_slots(world: World, settings: Settings) -> None:
    sharded = Ledger(world.ledger.redis, settings.model_copy(update={"copy_slots": 3, "shards": 2}))
    for each in range(16):
        to = f"{each:08x}".ljust(32, "0")
        sharded.submit(sharded.new_id(to), destination=to, spec="{}", direction="copy", priority=5)

    admitted = [message.args[0].partition("-")[0] for message in sharded.admit()]

    assert sorted(admitted) == ["s0", "s0", "s1"]


def test_admission_goes_by_priority_then_first_come_first_served(world: World, settings: Settings) -> None:
    one = Ledger(world.ledger.redis, settings.model_copy(update={"copy_slots": 1}))
    low, first, second, urgent = (
        world.submit(name, priority=priority) for name, priority in [("a", 9), ("b", 5), ("c", 5), ("d", 0)]
    )
    world.client.zincrby(f"{P}queue:copy", 5, second)  # it came 5 ms later, however fast this machine is

    order = []
    while messages := one.admit():
        order.append(messages[0].args[0])
        one.steer(order[-1], "pause")  # frees the slot

    assert order == [urgent, first, second, low]


def test_the_oldest_in_the_queue_is_found_behind_those_of_higher_priority(world: World) -> None:
    assert world.ledger.oldest_queued_seconds() is None
    old, _ = world.submit("a", priority=9), [world.submit(str(each), priority=each) for each in range(9)]
    world.client.zincrby(f"{P}queue:copy", -5_000, old)

    assert 5 <= (world.ledger.oldest_queued_seconds() or 0) < 60


def test_a_transfer_keeps_its_place_in_the_queue_however_often_it_is_looked_at(
    world: World, settings: Settings
) -> None:
    transfer_id, _ = world.running("a")
    world.lease(transfer_id)
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    place = world.client.zscore(f"{P}queue:copy", transfer_id)

    world.pass_time(LEASE_MS + 1)
    world.client.zincrby(f"{P}queue:copy", -LEASE_MS, transfer_id)
    world.sweep()

    assert place is not None
    assert world.client.zscore(f"{P}queue:copy", transfer_id) == place - LEASE_MS


def test_the_prepare_message_carries_epoch_and_control_queue(world: World) -> None:
    transfer_id = world.submit("d", control_queue="haulage.host.here.control")

    assert world.ledger.admit() == [Message("prepare", (transfer_id, 1), "haulage.host.here.control")]


def test_a_transfer_waits_for_its_not_before_and_then_queues_by_itself(world: World) -> None:
    seconds, _ = world.client.time()
    transfer_id = world.submit("d", not_before_ms=seconds * 1000 + 60_000)
    assert world.ledger.admit() == []
    assert world.reason(transfer_id) == "not_before"
    assert world.kinds() == []

    world.pass_time(61_000)

    assert world.kinds() == ["admit"]
    assert [each.args[0] for each in world.ledger.admit()] == [transfer_id]


def test_a_transfer_submitted_paused_starts_only_when_resumed(world: World) -> None:
    transfer_id = world.submit("d", paused=True)
    assert world.ledger.admit() == []
    assert world.state(transfer_id) == "paused"

    assert world.ledger.steer(transfer_id, "resume") == ("ok", "queued")

    assert [each.args for each in world.ledger.admit()] == [(transfer_id, 2)]


# Preparing


def test_of_two_prepare_messages_one_gets_the_lease(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()
    world.prepare_lease(transfer_id)

    assert world.ledger.prepare_lease(transfer_id, 1, "other", new_nonce()) == "busy"
    assert world.ledger.prepare_lease(transfer_id, 2, "other", new_nonce()) == "stop"


@pytest.mark.parametrize("kind", ["prepare", "complete", "abort"])
def test_a_lease_asked_for_again_after_a_lost_reply_is_the_same(world: World, kind: str) -> None:
    nonce = new_nonce()
    if kind == "prepare":
        transfer_id = world.submit()
        world.ledger.admit()
        answers = [world.ledger.prepare_lease(transfer_id, 1, "w", nonce) for _ in range(2)]
    elif kind == "complete":
        transfer_id, _ = world.running(parts=1)
        world.move_all(transfer_id)
        answers = [world.ledger.complete_claim(transfer_id, 1, "w", nonce) for _ in range(2)]  # type: ignore[misc]
    else:
        transfer_id, _ = world.running()
        world.ledger.steer(transfer_id, "cancel")
        answers = [world.ledger.abort_claim(transfer_id, "w", nonce) for _ in range(2)]

    first, second = answers
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert (first[0].token, first[0].attempt) == (second[0].token, second[0].attempt) == (first[0].token, 1)


def test_a_lost_prepare_is_sent_again_after_a_lease(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()
    assert world.kinds() == []

    world.pass_time(LEASE_MS + 1)

    assert world.sweep() == [Message("prepare", (transfer_id, 1), CONTROL)]
    assert world.kinds() == []


def test_what_a_preparer_that_lost_its_lease_writes_does_not_count(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()
    old = world.prepare_lease(transfer_id)
    world.pass_time(LEASE_MS + 1)
    world.sweep()
    new = world.prepare_lease(transfer_id)

    assert not world.ledger.note(old, {"session": "old"})
    assert world.prepared(old) == "stop"
    assert world.ledger.prepare_failed(old, "fail", data=ERROR) == "fenced"
    assert world.ledger.hold_destination(old, "disk:1") is None
    assert not world.ledger.undo(old, None)
    assert isinstance(world.prepared(new), Armed)
    assert world.record(transfer_id).session is None


def test_preparing_is_tried_again_after_the_delay_and_not_earlier(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()
    world.ledger.prepare_failed(world.prepare_lease(transfer_id), "retry", delay_ms=5_000, data=ERROR)

    assert world.ledger.prepare_lease(transfer_id, 1, "w", new_nonce()) == "later"
    assert world.kinds() == []
    world.pass_time(5_001)
    assert world.kinds() == ["prepare"]
    assert world.prepare_lease(transfer_id).attempt == 2


def test_a_preparation_handed_back_is_no_attempt(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()
    world.ledger.prepare_failed(world.prepare_lease(transfer_id), "handed_back", data={})

    assert world.prepare_lease(transfer_id).attempt == 1


def test_a_destination_seen_under_two_names_is_found_while_preparing(world: World) -> None:
    first, second = world.submit("a"), world.submit("b")
    world.ledger.admit()
    assert world.ledger.hold_destination(world.prepare_lease(first), "disk:7") is None

    assert world.ledger.hold_destination(world.prepare_lease(second), "disk:7") == first


def test_an_open_session_is_listed_until_it_is_completed_or_aborted(world: World) -> None:
    done, _ = world.running("a", parts=1)
    dropped, _ = world.running("b")
    assert set(world.ledger.sessions()) == {done, dropped}

    world.move_all(done)
    world.committed(world.commit_lease(done))
    world.ledger.steer(dropped, "cancel")
    assert set(world.ledger.sessions()) == {dropped}
    granted = world.ledger.abort_claim(dropped, "w", new_nonce())
    assert isinstance(granted, tuple)
    world.ledger.aborted(granted[0], fine=True)

    assert world.ledger.sessions() == {}


def test_only_the_session_of_a_transfer_that_is_over_for_good_is_forgotten(world: World) -> None:
    running, _ = world.running("a")
    cancelled, _ = world.running("b")
    world.ledger.steer(cancelled, "cancel")

    answers = [world.ledger.forget_session(each) for each in (running, cancelled, cancelled)]

    assert answers == [False, True, True]
    assert set(world.ledger.sessions()) == {running}


# Reconciling


def test_parts_the_store_lost_are_sent_again_and_the_others_are_kept(world: World) -> None:
    transfer_id, _ = world.running(parts=3)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)

    assert world.ledger.undo(lease, [2])
    assert world.ledger.undo(lease, [2])
    assert world.committed(lease, "restart") == "preparing"
    world.prepared(world.prepare_lease(transfer_id))

    record = world.record(transfer_id)
    assert (record.number("done"), record.number("done_bytes")) == (2, 20)
    assert [each.number for each in world.ledger.receipts(record)] == [1, 3]
    assert world.lease(transfer_id).member == "2"


def test_a_lost_session_undoes_every_part_and_fences_who_still_writes_to_it(world: World) -> None:
    transfer_id, _ = world.running(parts=3)
    world.finish(world.lease(transfer_id, 1))
    late = world.lease(transfer_id, 2)
    world.ledger.release(world.lease(transfer_id, 1, 1), "restart", error=ERROR)
    prepare = world.prepare_lease(transfer_id)
    world.ledger.undo(prepare, None)

    assert world.finish(late).answer == "fenced"
    record = world.record(transfer_id)
    assert (record.number("done"), record.number("done_bytes"), record.session) == (0, 0, None)
    assert world.ledger.receipts(record) == []


def test_a_worker_that_dies_between_undoing_parts_and_saying_so_hangs_nothing(world: World) -> None:
    transfer_id, _ = world.running(parts=2)
    world.move_all(transfer_id)
    world.ledger.undo(world.commit_lease(transfer_id), [1])

    world.pass_time(LEASE_MS + 1)
    world.sweep()

    assert world.state(transfer_id) == "preparing"
    assert world.kinds() == ["prepare"]


# Completing


def test_complete_is_granted_to_one_at_a_time_and_ends_the_transfer_once(world: World) -> None:
    transfer_id, _ = world.running(parts=2)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)

    assert world.complete(transfer_id) == "busy"
    assert world.committed(lease, data={"etag": "x"}) == "completed"
    assert world.committed(lease) == "fenced"
    assert world.complete(transfer_id) == "over"
    assert world.record(transfer_id).data("result") == {"etag": "x"}
    assert world.events(transfer_id)[-1] == "completed"
    assert world.events(transfer_id).count("completed") == 1


def test_complete_called_too_early_waits_while_parts_are_leased(world: World) -> None:
    transfer_id, _ = world.running(parts=2)
    world.lease(transfer_id)

    assert world.complete(transfer_id) == "wait"


def test_complete_arms_a_round_when_lanes_died_but_only_its_own_round_may(world: World) -> None:
    transfer_id, _ = world.running(parts=3)
    world.finish(world.lease(transfer_id))

    assert world.complete(transfer_id, round_no=0) == "wait"
    armed = world.complete(transfer_id, round_no=1)
    assert isinstance(armed, Armed)
    assert (armed.round_no, armed.lanes) == (2, 2)
    assert world.complete(transfer_id, round_no=1) == "wait"
    assert isinstance(world.claim(transfer_id, round_no=1), Stop)
    assert world.lease(transfer_id).member == "2"


def test_complete_does_not_spin_while_all_that_is_left_backs_off(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.ledger.release(world.lease(transfer_id), "retry", delay_ms=5_000, error=ERROR)
    assert isinstance(world.claim(transfer_id, 1, 1), Later)

    assert {world.complete(transfer_id) for _ in range(20)} == {"wait"}
    assert world.kinds() == []

    assert world.record(transfer_id).number("round") == 1
    world.pass_time(5_001)
    assert world.kinds() == ["part"]
    assert world.record(transfer_id).number("round") == 1


def test_a_lost_chord_body_is_replaced_a_second_after_the_last_receipt(world: World) -> None:
    transfer_id, _ = world.running(parts=2)
    world.move_all(transfer_id)
    assert world.kinds() == []

    world.pass_time(1_001)

    assert world.sweep() == [Message("complete", (transfer_id, 1), CONTROL)]
    assert world.kinds() == []


def test_a_commit_whose_worker_died_is_tried_again_after_a_lease(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    dead = world.commit_lease(transfer_id)
    world.pass_time(LEASE_MS + 1)

    assert world.kinds() == ["complete"]
    second = world.commit_lease(transfer_id)
    assert second.attempt == 2
    assert world.committed(dead) == "fenced"
    assert world.committed(second) == "completed"


def test_a_failed_commit_is_tried_again_after_the_delay_and_not_earlier(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)

    assert world.committed(world.commit_lease(transfer_id), "retry", delay_ms=4_000, data=ERROR) == "running"
    assert world.complete(transfer_id) == "wait"
    world.pass_time(4_001)

    assert world.kinds() == ["complete"]
    assert world.commit_lease(transfer_id).attempt == 2


def test_a_commit_handed_back_is_no_attempt(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)

    world.committed(world.commit_lease(transfer_id), "handed_back")

    assert world.commit_lease(transfer_id).attempt == 1


@pytest.mark.parametrize(("action", "state"), [("pause", "paused"), ("cancel", "cancelled")])
@pytest.mark.parametrize("outcome", ["failed", "retry", "wait", "restart", "handed_back"])
def test_a_wish_during_the_commit_comes_true_if_the_commit_fails(
    world: World, action: str, state: str, outcome: str
) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)

    assert world.ledger.steer(transfer_id, action) == ("wish", "completing")

    assert world.committed(lease, outcome, data=ERROR) == state
    assert world.slots() == set()


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_wish_during_the_commit_is_void_if_the_commit_succeeds(world: World, action: str) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)
    world.ledger.steer(transfer_id, action)

    assert world.committed(lease) == "completed"
    assert world.events(transfer_id)[-1] == "completed"


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_wish_is_void_once_the_object_is_visible_and_only_its_checksum_is_looked_at(
    world: World, action: str
) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)
    assert world.ledger.note(lease, {"committed": 1})
    world.ledger.steer(transfer_id, action)

    assert world.committed(lease, "retry", data=ERROR) == "running"
    assert world.committed(world.commit_lease(transfer_id)) == "completed"


def test_a_commit_that_begins_anew_hears_the_wish_again(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)
    world.ledger.note(lease, {"committed": 1})
    world.ledger.steer(transfer_id, "cancel")

    assert world.committed(lease, "restart", data=ERROR) == "cancelled"


def test_resume_takes_the_wish_to_pause_back(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)
    assert world.ledger.steer(transfer_id, "resume") == ("no", "completing"), "there is nothing to take back"
    world.ledger.steer(transfer_id, "pause")
    nonce = new_nonce()

    for answer in (b"wish", b"ok"):  # again after a lost reply
        assert move("steer")(world.client, P, transfer_id, "resume", WEEK_MS, nonce)[0] == answer
    assert world.ledger.steer(transfer_id, "resume") == ("no", "completing")
    assert world.committed(lease, "retry", data=ERROR) == "running"


def test_a_cancel_during_the_commit_is_not_taken_back_by_pause_or_resume(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.move_all(transfer_id)
    lease = world.commit_lease(transfer_id)
    for action in ("cancel", "pause", "resume"):
        world.ledger.steer(transfer_id, action)

    assert world.committed(lease, "failed", data=ERROR) == "cancelled"


# Steering


def test_pause_frees_the_slot_and_stops_lanes_and_resume_begins_a_new_epoch(world: World) -> None:
    transfer_id, _ = world.running()
    busy = world.lease(transfer_id)

    assert world.ledger.steer(transfer_id, "pause") == ("ok", "paused")
    assert world.ledger.steer(transfer_id, "pause") == ("ok", "paused")
    assert isinstance(world.claim(transfer_id, 2), Stop)
    assert world.slots() == set()
    assert [each.state for each in world.ledger.renew([(busy, 3)], "worker")] == ["paused"]
    assert world.finish(busy).answer == "ok"
    assert world.ledger.steer(transfer_id, "resume") == ("ok", "queued")
    assert world.ledger.steer(transfer_id, "resume") == ("no", "queued")
    assert [each.args for each in world.ledger.admit()] == [(transfer_id, 3)]
    world.prepared(world.prepare_lease(transfer_id))

    assert isinstance(world.claim(transfer_id, epoch=1), Stop)
    assert world.lease(transfer_id).member == "2"
    assert world.events(transfer_id) == [
        *("queued", "probed", "started", "paused", "progress", "resumed", "probed", "started")
    ]


def test_a_part_that_finds_its_session_gone_after_a_resume_disturbs_nobody(world: World) -> None:
    transfer_id, _ = world.running()
    old = world.lease(transfer_id)
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")

    assert world.ledger.release(old, "restart", error=ERROR).state == "queued"

    assert world.state(transfer_id) == "queued"
    assert len(world.ledger.admit()) == 1


def test_cancel_waits_with_the_clean_up_until_no_part_is_in_flight(world: World) -> None:
    transfer_id, _ = world.running()
    busy = world.lease(transfer_id)

    assert world.ledger.steer(transfer_id, "cancel") == ("ok", "cancelled")
    assert world.ledger.steer(transfer_id, "cancel") == ("no", "cancelled")
    assert world.ledger.abort_claim(transfer_id, "w", new_nonce()) == "wait"
    outcome = world.finish(busy)
    assert (outcome.answer, outcome.state, outcome.live_leases) == ("dead", "cancelled", 0)
    granted = world.ledger.abort_claim(transfer_id, "w", new_nonce())
    assert isinstance(granted, tuple)
    assert granted[1].session == UploadId("upload-1")
    assert "cancelled" not in world.events(transfer_id)
    world.ledger.aborted(granted[0], fine=True)

    assert world.ledger.abort_claim(transfer_id, "w", new_nonce()) == "over"
    assert world.events(transfer_id)[-1] == "cancelled"
    assert world.kinds() == []


def test_cancel_is_announced_once_even_if_the_worker_that_cleans_up_dies(world: World) -> None:
    transfer_id, _ = world.running()
    world.ledger.steer(transfer_id, "cancel")
    assert isinstance(world.ledger.abort_claim(transfer_id, "w", new_nonce()), tuple)
    world.pass_time(LEASE_MS + 1)
    assert world.kinds() == ["abort"]

    for fine in (False, True):
        granted = world.ledger.abort_claim(transfer_id, "w", new_nonce())
        assert isinstance(granted, tuple)
        world.ledger.aborted(granted[0], fine=fine)

    assert world.events(transfer_id).count("cancelled") == 1


def test_a_clean_up_that_fails_is_tried_again_after_its_delay_and_not_earlier(world: World) -> None:
    transfer_id, _ = world.running()
    world.ledger.steer(transfer_id, "cancel")
    granted = world.ledger.abort_claim(transfer_id, "w", new_nonce())
    assert isinstance(granted, tuple)
    world.ledger.aborted(granted[0], fine=False, delay_ms=60_000, error=ERROR)

    for _ in range(3):
        world.pass_time(LEASE_MS + 1)
        assert world.kinds() == []
    world.pass_time(30_000)

    assert world.kinds() == ["abort"]


def test_cancel_leaves_the_session_where_partial_files_are_kept(world: World) -> None:
    transfer_id, _ = world.running(keep_partial=True)

    world.ledger.steer(transfer_id, "cancel")

    assert world.ledger.abort_claim(transfer_id, "w", new_nonce()) == "over"
    assert world.events(transfer_id)[-1] == "cancelled"


def test_steering_what_is_gone_or_over_says_so(world: World) -> None:
    done = world.completed()

    assert world.ledger.steer(world.ledger.new_id(destination("x")), "pause") == ("gone", "")
    for action in ("pause", "resume", "cancel", "retry"):
        assert world.ledger.steer(done, action) == ("no", "completed")


# Failing and trying again


def test_retry_keeps_the_parts_that_are_done(world: World) -> None:
    transfer_id = world.failed()

    assert world.ledger.steer(transfer_id, "retry") == ("ok", "queued")
    world.ledger.admit()
    world.prepared(world.prepare_lease(transfer_id))

    record = world.record(transfer_id)
    assert record.number("done") == 1
    assert record.data("error") == {}
    world.move_all(transfer_id)
    assert world.committed(world.commit_lease(transfer_id)) == "completed"


def test_retry_repeats_the_duplicate_check(world: World) -> None:
    transfer_id = world.failed("d")
    other = world.submit("d")

    assert world.ledger.steer(transfer_id, "retry") == ("dup", other)
    assert world.state(transfer_id) == "failed"
    world.ledger.steer(other, "cancel")
    assert world.ledger.steer(transfer_id, "retry") == ("ok", "queued")


def test_retry_repeats_the_duplicate_check_also_for_the_second_identity(world: World) -> None:
    first, second = world.submit("a"), world.submit("b")
    world.ledger.admit()
    prepare = world.prepare_lease(first)
    world.ledger.hold_destination(prepare, "disk:7")
    world.ledger.prepare_failed(prepare, "fail", data=ERROR)
    world.ledger.hold_destination(world.prepare_lease(second), "disk:7")

    assert world.ledger.steer(first, "retry") == ("dup", second)


def test_parts_in_flight_when_a_transfer_fails_still_count_and_say_nothing(world: World) -> None:
    transfer_id, _ = world.running()
    sibling, bad = world.lease(transfer_id, 1), world.lease(transfer_id, 2)
    world.ledger.release(bad, "fail", error=ERROR)

    assert world.finish(sibling).answer == "ok"

    assert world.record(transfer_id).number("done") == 1
    assert world.events(transfer_id)[-1] == "failed"


# Keeping and forgetting


def test_nothing_of_a_live_transfer_expires(world: World) -> None:
    transfer_id, _ = world.running()
    world.finish(world.lease(transfer_id))
    world.ledger.release(world.lease(transfer_id, 2), "retry", error=ERROR)

    assert set(world.keys_of(transfer_id).values()) == {-1}


def test_everything_of_a_failed_transfer_expires_and_nothing_once_it_is_tried_again(world: World) -> None:
    transfer_id, _ = world.running(parts=4, in_flight=3, keep_partial=True)
    late, later, bad = (world.lease(transfer_id, lane) for lane in (1, 2, 3))
    world.ledger.release(bad, "fail", error=ERROR)
    world.finish(late)  # the first receipt, and the first failed attempt: keys that were not there before
    world.ledger.release(later, "retry", error=ERROR)

    left = world.keys_of(transfer_id)
    assert all(0 < each <= WEEK_MS for each in left.values()), left
    world.ledger.steer(transfer_id, "retry")
    assert set(world.keys_of(transfer_id).values()) == {-1}


def test_what_a_failed_transfer_left_at_the_store_is_dropped_when_nobody_retried_it_in_time(world: World) -> None:
    transfer_id = world.failed()
    assert set(world.keys_of(transfer_id).values()) == {-1}, "its record must outlive what it left"
    world.pass_time(WEEK_MS - 1_000)
    assert world.kinds() == []
    world.pass_time(2_000)

    assert world.kinds() == ["abort"]

    granted = world.ledger.abort_claim(transfer_id, "w", new_nonce())
    assert isinstance(granted, tuple)
    assert granted[1].session == UploadId("upload-1")
    world.ledger.aborted(granted[0], fine=True)
    assert world.events(transfer_id)[-2:] == ["failed", "cancelled"]
    assert world.ledger.sessions() == {}
    assert all(0 < each <= WEEK_MS for each in world.keys_of(transfer_id).values())
    world.pass_time(WEEK_MS + 1)
    world.sweep()
    assert world.ledger.list_ids() == []


def test_a_retry_just_in_time_keeps_what_a_failed_transfer_left(world: World) -> None:
    transfer_id = world.failed()
    world.pass_time(WEEK_MS + 1)
    world.ledger.steer(transfer_id, "retry")

    assert "abort" not in world.kinds()
    assert world.record(transfer_id).session == UploadId("upload-1")


def test_of_a_completed_transfer_only_record_and_events_are_kept_for_a_while(world: World) -> None:
    transfer_id = world.completed()

    left = world.keys_of(transfer_id)
    assert set(left) == {f"{P}{kind}:{transfer_id}" for kind in "ted"}
    assert all(0 < each <= WEEK_MS for each in left.values())


def test_the_list_of_transfers_forgets_those_whose_record_has_expired(world: World) -> None:
    kept, gone = world.failed("a"), world.completed("b")
    world.ledger.steer(kept, "retry")

    world.pass_time(WEEK_MS + 1)
    world.sweep()

    assert world.ledger.list_ids() == [kept]
    assert gone not in world.ledger.list_ids()


# Reading


def test_the_list_is_newest_first_and_paged(world: World) -> None:
    ids = [world.submit(str(each)) for each in range(5)]
    for at, each in enumerate(ids):
        world.client.zadd(f"{P}all", {each: at})

    assert world.ledger.list_ids(limit=2) == [ids[4], ids[3]]
    assert world.ledger.list_ids(start=3, limit=5) == [ids[1], ids[0]]
    assert world.ledger.list_ids(newest_first=False, limit=2) == ids[:2]


def test_a_list_over_several_shards_is_in_one_order(world: World, settings: Settings) -> None:
    sharded = Ledger(world.ledger.redis, settings.model_copy(update={"shards": 3}))
    ids = []
    for at in range(6):
        where = f"{at:08x}" + "0" * 24
        ids.append(sharded.new_id(where))
        sharded.submit(ids[-1], **{**world.options(), "destination": where})
        world.client.zadd(f"hl:{{s{at % 3}}}:all", {ids[-1]: at})

    assert [each.split("-")[0] for each in ids] == ["s0", "s1", "s2"] * 2
    assert sharded.list_ids() == ids[::-1]
    assert len(sharded.admit()) == 6


@pytest.mark.parametrize("text", ["", "x", "s0", "t0-abc", "s-abc", "s0-", "s0-a:b", "s0-../etc", "sx-abc"])
def test_what_is_no_transfer_id_is_not_found(world: World, text: str) -> None:
    with pytest.raises(TransferNotFound):
        world.ledger.record(text)


def test_a_record_of_an_unknown_schema_is_named_not_guessed_at(world: World) -> None:
    transfer_id, _ = world.running()
    world.client.hset(f"{P}t:{transfer_id}", "schema", 99)

    record = world.record(transfer_id)

    with pytest.raises(LedgerCorrupt, match=f"{transfer_id} has schema 99"):
        _ = record.spec
    assert record.state == "running"


def test_a_spec_with_a_field_of_a_later_version_is_not_guessed_at(world: World) -> None:
    transfer_id = world.submit(spec='{"source":"/a","destination":"/b","warp":9}')

    with pytest.raises(LedgerCorrupt, match="warp"):
        _ = world.record(transfer_id).spec


def test_a_ledger_that_does_not_answer_is_named_without_its_password() -> None:
    place = f"127.0.0.1:{free_port()}"
    settings = load_settings(redis_url=f"redis://:hunter2@{place}", redis_retry_seconds=0)
    with connect(settings) as own, pytest.raises(LedgerUnavailable) as caught:
        Ledger(own, settings).record("s0-abc")

    assert str(caught.value) == f"Redis at {place} did not answer: connection refused"
    assert caught.value.__cause__ is None


def test_moves_work_again_after_the_server_forgot_its_scripts(world: World) -> None:
    transfer_id, _ = world.running()
    lease = world.lease(transfer_id)
    world.client.script_flush()

    assert world.ledger.renew([(lease, 1), (lease, 2)], "w")[0].held
    world.client.script_flush()
    assert isinstance(world.lease(transfer_id, 2), Lease)
