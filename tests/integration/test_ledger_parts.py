"""Parts: claimed by tickets, finished by tokens, given back, lost, and found again by the sweeper."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.ledger import Ledger, Message, new_nonce
from orchestrator.moves import move
from orchestrator.records import Armed, Drained, Full, Later, Lease, Stop, pack_receipt
from orchestrator.settings import Settings
from providers.base import PartReceipt
from tests.integration.ledger_world import DATA, ERROR, LEASE_MS, PART_BYTES, P, World

# Claiming


def test_a_round_has_as_many_lanes_as_parts_in_flight_or_as_there_are_parts(world: World) -> None:
    _, wide = world.running("a", parts=10, in_flight=4)
    _, narrow = world.running("b", parts=2, in_flight=4)

    assert (wide.lanes, narrow.lanes) == (4, 2)


def test_lanes_take_parts_in_order_and_each_only_once(world: World) -> None:
    transfer_id, _ = world.running(parts=5, in_flight=3)
    seqs = {1: 0, 2: 0, 3: 0}
    taken = []

    for lane in itertools.islice(itertools.cycle(seqs), 5):
        lease = world.lease(transfer_id, lane, seqs[lane])
        seqs[lane] = lease.next_seq
        taken.append(lease.part_number)
        world.finish(lease)

    assert taken == [1, 2, 3, 4, 5]
    assert isinstance(world.claim(transfer_id, 3, seqs[3]), Drained)


def test_a_claim_repeated_after_a_lost_reply_gets_the_same_part(world: World) -> None:
    transfer_id, _ = world.running()
    nonce = new_nonce()

    first, second = (world.claim(transfer_id, nonce=nonce) for _ in range(2))

    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert (first.member, first.token, first.next_seq) == (second.member, second.token, second.next_seq)
    assert len(world.ledger.in_flight(transfer_id)) == 1


def test_of_a_doubled_message_the_second_copy_stops(world: World) -> None:
    transfer_id, _ = world.running()
    world.lease(transfer_id)

    assert world.claim(transfer_id) == Stop("ticket")


@pytest.mark.parametrize(("epoch", "round_no"), [(0, 1), (2, 1), (1, 0), (1, 2)])
def test_a_message_of_another_epoch_or_round_stops(world: World, epoch: int, round_no: int) -> None:
    transfer_id, _ = world.running()

    assert isinstance(world.claim(transfer_id, epoch=epoch, round_no=round_no), Stop)
    assert world.ledger.in_flight(transfer_id) == {}


def test_a_claim_for_an_unknown_transfer_stops(world: World) -> None:
    assert world.ledger.claim("s0-gone", 1, 1, 1, 0, nonce=new_nonce(), process="w") == Stop("gone")
    assert world.client.keys("*gone*") == []


def test_never_more_parts_are_leased_than_allowed_not_even_to_old_lanes(world: World) -> None:
    transfer_id, _ = world.running(parts=6, in_flight=2)
    world.lease(transfer_id, 1)
    world.lease(transfer_id, 2)
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    assert isinstance(world.prepared(world.prepare_lease(transfer_id), parts=6), Armed)

    assert isinstance(world.claim(transfer_id, 1), Full)
    assert isinstance(world.claim(transfer_id, 1), Stop), "a full lane gives its ticket up"


def test_a_lane_that_was_full_is_replaced_when_there_is_room(world: World) -> None:
    transfer_id, _ = world.running(parts=6, in_flight=1)
    old = world.lease(transfer_id)
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    world.prepared(world.prepare_lease(transfer_id), parts=6, in_flight=1)
    assert isinstance(world.claim(transfer_id), Full)
    world.finish(old)

    world.pass_time(LEASE_MS + 1)

    assert world.kinds() == ["part"]


def test_a_lane_waits_a_short_back_off_with_its_ticket_and_gives_it_up_for_a_long_one(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    lease = world.lease(transfer_id)
    world.ledger.release(lease, "retry", delay_ms=800, error=ERROR)

    short = world.claim(transfer_id, 1, 1)
    assert isinstance(short, Later)
    assert 0 < short.wait_ms <= 800
    world.pass_time(801)
    world.ledger.release(world.lease(transfer_id, 1, 1), "retry", delay_ms=5_000, error=ERROR)
    assert isinstance(world.claim(transfer_id, 1, 2), Later)

    assert isinstance(world.claim(transfer_id, 1, 2), Stop)
    assert world.kinds() == []
    world.pass_time(5_001)
    assert world.kinds() == ["part"]


def test_a_part_that_backs_off_does_not_hold_the_others_up(world: World) -> None:
    transfer_id, _ = world.running(parts=3, in_flight=1)
    world.ledger.release(world.lease(transfer_id), "retry", delay_ms=60_000, error=ERROR)

    assert world.lease(transfer_id, 1, 1).member == "2"


def test_only_leased_parts_are_left_means_drained(world: World) -> None:
    transfer_id, _ = world.running(parts=2, in_flight=2)
    world.finish(world.lease(transfer_id, 1))
    world.lease(transfer_id, 2)

    assert isinstance(world.claim(transfer_id, 1, 1), Drained)


# Destinations that take parts one after the other


def test_a_sequential_destination_has_one_lane_whatever_is_allowed(world: World) -> None:
    transfer_id, armed = world.running(parts=5, in_flight=4, sequential=True)

    assert armed.lanes == 1
    world.lease(transfer_id)
    assert "part" not in world.kinds(), "the sweeper adds no second one"


def test_nothing_is_taken_past_a_part_that_backs_off_where_order_matters(world: World) -> None:
    transfer_id, _ = world.running(parts=3, sequential=True)
    world.ledger.release(world.lease(transfer_id), "retry", delay_ms=60_000, error=ERROR)

    assert isinstance(world.claim(transfer_id, 1, 1), Later)
    assert world.kinds() == []
    world.pass_time(60_001)

    assert [(each.kind, each.args[-2:]) for each in world.sweep()] == [("part", (1, 0))]
    assert world.lease(transfer_id).member == "1"


def test_in_order_it_goes_on_over_a_death_a_pause_and_a_late_lane(world: World) -> None:
    transfer_id, _ = world.running(parts=4, sequential=True)
    world.finish(world.lease(transfer_id))
    world.lease(transfer_id, 1, 1)  # dies with part 2
    world.pass_time(LEASE_MS + 1)
    world.sweep()
    late = world.lease(transfer_id, 1, 2)
    assert late.member == "2"
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    assert isinstance(world.prepared(world.prepare_lease(transfer_id), parts=4, sequential=True), Armed)

    assert isinstance(world.claim(transfer_id), Full), "part 2 is still leased"
    world.finish(late)
    world.pass_time(LEASE_MS + 1)
    world.sweep()
    taken, seq = [], 0
    while isinstance(claim := world.claim(transfer_id, 1, seq), Lease):
        taken.append(claim.member)
        world.finish(claim)
        seq = claim.next_seq

    assert taken == ["3", "4"]


def test_a_part_lost_in_order_takes_all_behind_it_along(world: World) -> None:
    transfer_id, _ = world.running(parts=5, sequential=True)
    seq = 0
    for _ in range(3):
        lease = world.lease(transfer_id, 1, seq)
        world.finish(lease)
        seq = lease.next_seq
    late = world.lease(transfer_id, 1, seq)
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    preparing = world.prepare_lease(transfer_id)

    for _ in range(2):  # twice: the first reply was lost
        assert world.ledger.undo(preparing, [2])

    assert (world.record(transfer_id).number("done"), world.record(transfer_id).number("done_bytes")) == (1, PART_BYTES)
    assert world.finish(late).answer == "fenced"
    assert isinstance(world.prepared(preparing, parts=5, sequential=True), Armed)
    world.move_all(transfer_id)
    assert world.record(transfer_id).number("done") == 5
    assert [each.number for each in world.ledger.receipts(world.record(transfer_id))] == [1, 2, 3, 4, 5]


# Finishing


def test_the_last_receipt_says_so(world: World) -> None:
    transfer_id, _ = world.running(parts=2)

    first = world.finish(world.lease(transfer_id, 1))
    last = world.finish(world.lease(transfer_id, 2), size=4)

    assert (first.counted, first.last) == (True, False)
    assert (last.counted, last.last, last.done, last.part_count) == (True, True, 2, 2)
    assert world.record(transfer_id).number("done_bytes") == 14


def test_finish_repeated_after_a_lost_reply_counts_once(world: World) -> None:
    transfer_id, _ = world.running(parts=2)
    lease = world.lease(transfer_id)

    answers = [world.finish(lease) for _ in range(3)]

    assert [(each.answer, each.done) for each in answers] == [("ok", 1), ("again", 1), ("again", 1)]
    assert world.record(transfer_id).number("done_bytes") == 10


def test_receipts_come_back_as_they_were_stored(world: World) -> None:
    transfer_id, _ = world.running(parts=3)
    stored = [
        PartReceipt(1, 10, '"9e107d9d372bb6826bd81d3542a419d6"', 2**64 - 1),
        PartReceipt(2, 7, "0x8D4BCC2E4835CD0", None),
        PartReceipt(3, 10, "", 0),
    ]
    for lane, receipt in enumerate(stored):
        lease = world.lease(transfer_id, 1, lane)
        assert world.ledger.finish(lease, receipt, 10).answer == "ok"

    assert world.ledger.receipts(world.record(transfer_id)) == stored


def test_a_zombie_finishes_nothing_once_its_part_was_claimed_anew(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    zombie = world.lease(transfer_id)
    world.pass_time(LEASE_MS + 1)
    world.sweep()
    heir = world.lease(transfer_id, 1, 1)

    assert world.finish(zombie).answer == "fenced"
    assert not world.ledger.renew([(zombie, 5)], "worker")[0].held
    assert world.ledger.release(zombie, "retry", error=ERROR).answer == "fenced"
    assert heir.token != zombie.token
    assert world.finish(heir).last


def test_a_lease_that_ran_out_unseen_is_still_the_holders(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    lease = world.lease(transfer_id)
    world.pass_time(LEASE_MS + 1)

    assert world.ledger.renew([(lease, 5)], "worker")[0].held
    world.sweep()
    assert world.finish(lease).answer == "ok"


def test_renewals_carry_received_bytes_and_the_wish_of_the_user(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    lease = world.lease(transfer_id)

    world.ledger.renew([(lease, 4096)], "worker")
    assert world.ledger.in_flight(transfer_id) == {"1": ("worker", 4096)}
    world.finish(lease)
    assert world.ledger.in_flight(transfer_id) == {}
    commit = world.commit_lease(transfer_id)
    world.ledger.steer(transfer_id, "cancel")
    assert world.ledger.renew([(commit, None)], "control")[0].wish == "cancel"


# Giving back


def test_a_failed_part_counts_an_attempt_and_a_part_handed_back_does_not(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    outcomes = ["handed_back", "retry", "handed_back", "retry", "wait"]

    attempts = []
    for seq, outcome in enumerate(outcomes):
        lease = world.lease(transfer_id, 1, seq)
        attempts.append(lease.attempt)
        world.ledger.release(lease, outcome, error=ERROR if outcome != "handed_back" else None)

    assert attempts == [1, 1, 2, 2, 3]


def test_the_time_since_the_first_attempt_goes_on_over_retries(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    world.ledger.release(world.lease(transfer_id), "retry", error=ERROR)
    world.pass_time(7_000)

    assert world.lease(transfer_id, 1, 1).elapsed_ms >= 7_000


def test_failed_attempts_are_kept_newest_first_and_not_without_end(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    for seq in range(210):
        world.ledger.release(world.lease(transfer_id, 1, seq), "retry", error={**ERROR, "try": seq})

    assert [each["try"] for each in world.ledger.history(transfer_id, limit=2)] == [209, 208]
    assert len(world.ledger.history(transfer_id, limit=1000)) == 200


def test_a_final_error_fails_the_transfer_and_frees_what_it_held(world: World) -> None:
    transfer_id, _ = world.running()

    world.ledger.release(world.lease(transfer_id), "fail", error=ERROR)

    record = world.record(transfer_id)
    assert (record.state, record.data("error")["code"]) == ("failed", "transport")
    assert world.slots() == set()
    assert world.events(transfer_id)[-1] == "failed"
    assert world.kinds() == []


def test_a_release_without_an_error_leaves_events_readable(world: World) -> None:
    transfer_id, _ = world.running()

    world.ledger.release(world.lease(transfer_id), "retry")

    assert world.events(transfer_id)[-1] == "retrying"


# Tickets


def test_a_lost_message_is_sent_again_with_the_same_number_at_doubling_intervals(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    same = Message("part", (transfer_id, 1, 1, 1, 0), DATA)

    sent_after = []
    for seconds in range(10, 400, 10):
        world.pass_time(LEASE_MS + 1)
        if messages := world.sweep():
            assert messages == [same]
            sent_after.append(seconds)

    assert sent_after == [10, 30, 70, 150, 230, 310, 390]
    assert world.lease(transfer_id).member == "1"
    assert world.claim(transfer_id) == Stop("ticket"), "all later copies are void"


def test_a_busy_lane_keeps_its_ticket_by_renewing_its_lease(world: World) -> None:
    transfer_id, _ = world.running(parts=2, in_flight=1)
    lease = world.lease(transfer_id)

    for _ in range(5):
        world.pass_time(LEASE_MS - 1_000, alive="worker")
        assert world.ledger.renew([(lease, 1)], "worker")[0].held
        assert world.kinds() == []


def test_a_half_published_round_comes_back_to_full_width(world: World) -> None:
    transfer_id, _ = world.running(parts=10, in_flight=4)
    seq = {1: world.lease(transfer_id, 1).next_seq}  # the chord's other three messages were never sent

    world.pass_time(LEASE_MS - 1_000)
    held = world.ledger.in_flight(transfer_id)
    world.pass_time(1_001)
    lanes = {message.args[3] for message in world.sweep() if message.args[4] == 0}

    assert len(held) == len(seq) == 1
    assert lanes == {2, 3, 4}
    assert world.record(transfer_id).fields["damaged"] == "1"


def test_a_part_that_can_be_claimed_gets_a_lane_also_while_others_are_busy(world: World) -> None:
    """One lane holds a part for hours; another part was given back, and its lane has gone."""
    transfer_id, _ = world.running(parts=2, in_flight=2)
    long = world.lease(transfer_id, 1)
    world.ledger.release(world.lease(transfer_id, 2), "retry", delay_ms=2_000, error=ERROR)
    assert isinstance(world.claim(transfer_id, 2, 1), Later)

    world.pass_time(2_001)

    assert world.sweep() == [Message("part", (transfer_id, 1, 1, 2, 0), DATA)]
    assert world.lease(transfer_id, 2).member == "2"
    assert long.member == "1"


def test_a_sweep_sends_no_more_lanes_than_there_are_parts_to_claim(world: World) -> None:
    transfer_id, _ = world.running(parts=3, in_flight=3)
    for lane in (1, 2, 3):
        world.ledger.release(world.lease(transfer_id, lane), "retry", delay_ms=lane * 10_000, error=ERROR)
    for lane in (1, 2, 3):
        assert isinstance(world.claim(transfer_id, lane, 1), Later)

    world.pass_time(10_001)
    assert len(world.sweep()) == 1
    assert world.kinds() == []
    world.pass_time(LEASE_MS)
    assert len(world.sweep()) == 2  # the first message again, and one for the part that came due


def test_in_a_damaged_round_the_last_finish_knows_that_it_must_complete(world: World) -> None:
    whole, _ = world.running("a", parts=2)
    broken, _ = world.running("b", parts=2)
    world.pass_time(LEASE_MS + 1)
    world.client.zrem(f"{P}due", whole)
    world.sweep()

    assert not world.finish(world.lease(whole, 1)).damaged
    assert world.finish(world.lease(broken, 1)).damaged


def test_a_round_of_one_lane_completes_by_its_last_finish(world: World) -> None:
    transfer_id, _ = world.running(parts=3, in_flight=1)

    assert world.finish(world.lease(transfer_id)).damaged


# Death and poison


def die(world: World, transfer_id: str, lane: int = 1, *, alive: bool = False, busy: Lease | None = None) -> Lease:
    """A worker takes a part and is not heard of again; or only its thread hangs. ``busy`` is renewed meanwhile."""
    seq = int(world.client.hget(f"{P}k:{transfer_id}", str(lane)).split(b":")[1])
    lease = world.lease(transfer_id, lane, seq, process="victim")
    world.pass_time(LEASE_MS + 1, alive="victim" if alive else "")
    if busy:
        world.ledger.renew([(busy, 1)], "worker")
    world.sweep()
    return lease


def test_a_part_whose_worker_died_is_claimed_again_after_the_lease(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    dead = die(world, transfer_id)

    lease = world.lease(transfer_id, 1, 1)

    assert (lease.member, lease.attempt) == (dead.member, 2)
    (note,) = world.ledger.history(transfer_id)
    assert (note["code"], note["part"], note["deaths"], note["process"]) == ("lease_lost", 1, 1, "victim")


def test_a_lease_lost_by_a_process_that_lives_is_no_death(world: World) -> None:
    transfer_id, _ = world.running(parts=1)

    for _ in range(6):
        die(world, transfer_id, alive=True)

    assert world.state(transfer_id) == "running"
    assert {each["deaths"] for each in world.ledger.history(transfer_id)} == {0}


def test_a_part_that_killed_two_processes_runs_alone(world: World) -> None:
    transfer_id, _ = world.running(parts=4, in_flight=2)
    for _ in range(2):
        assert die(world, transfer_id).member == "1"
    ours = world.claim(transfer_id, 1, 2)

    assert isinstance(ours, Lease)
    assert ours.member == "1"
    assert isinstance(world.claim(transfer_id, 2), Full)
    for _ in range(5):  # a new lane would only hear `full`
        world.pass_time(LEASE_MS - 1_000)
        world.ledger.renew([(ours, 1)], "victim")
        assert world.kinds() == []
    world.finish(ours)
    assert world.kinds() == ["part"]
    assert world.lease(transfer_id, 2).member == "2"


def test_a_part_that_must_run_alone_waits_until_the_others_are_done(world: World) -> None:
    transfer_id, _ = world.running(parts=4, in_flight=2)
    busy = world.lease(transfer_id, 2)
    for _ in range(2):
        assert die(world, transfer_id, busy=busy).member == "2"

    assert isinstance(world.claim(transfer_id, 1, 2), Full)
    world.finish(busy)

    assert world.lease(transfer_id, 2, 1).member == "2"


def test_a_part_that_killed_too_many_processes_fails_the_transfer_with_its_history(world: World) -> None:
    transfer_id, _ = world.running(parts=1)

    for _ in range(world.ledger.settings.max_deaths):
        assert world.state(transfer_id) == "running"
        die(world, transfer_id)

    record = world.record(transfer_id)
    assert record.state == "failed"
    assert (record.data("error")["code"], record.data("error")["part"]) == ("part_poisonous", 1)
    assert [each["deaths"] for each in world.ledger.history(transfer_id)] == [4, 3, 2, 1]


def test_a_part_done_after_deaths_starts_with_a_clean_record(world: World) -> None:
    transfer_id, _ = world.running(parts=1)
    die(world, transfer_id)
    world.finish(world.lease(transfer_id, 1, 1))

    assert world.client.hlen(f"{P}a:{transfer_id}") == 0


# Sweeping


def test_only_one_of_two_sweepers_works(world: World) -> None:
    assert world.ledger.sweep("one") == []
    assert world.ledger.sweep("two") is None
    assert world.ledger.sweep("one") == []
    assert world.client.pttl(f"{P}sweeper") <= 2_000


def test_after_a_time_without_sweeps_leases_live_one_lease_more(world: World) -> None:
    """Redis was away: nobody could renew, so nobody is dead."""
    transfer_id, _ = world.running(parts=2)
    lease = world.lease(transfer_id)
    world.sweep()
    world.pass_time(LEASE_MS + 1, missed_sweeps=True)

    world.sweep()
    assert set(world.ledger.in_flight(transfer_id)) == {"1"}
    world.pass_time(LEASE_MS - 1_000)
    world.sweep()
    assert world.ledger.renew([(lease, 1)], "worker")[0].held
    world.pass_time(LEASE_MS + 1)
    world.sweep()
    assert world.ledger.in_flight(transfer_id) == {}


@pytest.mark.parametrize("member", ["prepare", "complete"])
def test_after_a_time_without_sweeps_nobody_else_prepares_or_commits(world: World, member: str) -> None:
    if member == "prepare":
        transfer_id = world.submit()
        world.ledger.admit()
        world.prepare_lease(transfer_id)
    else:
        transfer_id, _ = world.running(parts=1)
        world.move_all(transfer_id)
        world.commit_lease(transfer_id)
    world.sweep()
    world.pass_time(LEASE_MS + 1, missed_sweeps=True)

    assert member not in world.kinds()

    if member == "prepare":
        assert world.ledger.prepare_lease(transfer_id, 1, "other", new_nonce()) == "busy"
    else:
        assert world.complete(transfer_id) == "busy"


def test_two_sweeps_of_the_same_moment_send_a_message_once(world: World) -> None:
    world.running(parts=4, in_flight=4)
    world.pass_time(LEASE_MS + 1)

    assert len(world.sweep()) == 4
    assert world.sweep() == []


def test_a_long_list_of_transfers_is_swept_in_one_go(world: World, settings: Settings) -> None:
    wide = Ledger(world.ledger.redis, settings.model_copy(update={"copy_slots": 1000}))
    for each in range(30):
        world.submit(str(each))
    wide.admit()
    world.pass_time(LEASE_MS + 1)

    messages = wide.sweep("sweeper", limit=7)

    assert messages is not None
    assert len(messages) == 30


# Waiting


def waiting(world: World, parts: int = 3) -> tuple[str, Lease]:
    transfer_id, _ = world.running(parts=parts)
    other, bad = world.lease(transfer_id, 1), world.lease(transfer_id, 2)
    world.ledger.release(bad, "wait", delay_ms=30_000, reason="disk_full", error=ERROR)
    return transfer_id, other


def test_a_waiting_transfer_says_why_and_goes_on_when_its_time_comes(world: World) -> None:
    transfer_id, other = waiting(world)

    assert (world.state(transfer_id), world.reason(transfer_id)) == ("waiting", "disk_full")
    assert isinstance(world.claim(transfer_id, 2, 1), Stop)
    assert world.finish(other).answer == "ok"
    assert world.complete(transfer_id) == "wait"
    world.pass_time(20_000)
    assert world.kinds() == []
    world.pass_time(10_001)

    assert world.kinds() == ["part", "part"]
    assert (world.state(transfer_id), world.reason(transfer_id)) == ("running", "")
    assert world.slots() == {transfer_id}


def test_two_lanes_that_find_the_same_fault_wait_once(world: World) -> None:
    transfer_id, other = waiting(world)

    assert world.ledger.release(other, "wait", delay_ms=30_000, reason="disk_full", error=ERROR).state == "waiting"

    assert world.events(transfer_id).count("waiting") == 1


def test_who_waits_in_vain_for_more_than_half_a_minute_frees_its_slot(world: World) -> None:
    transfer_id, other = waiting(world, parts=2)
    world.ledger.release(other, "handed_back")
    world.pass_time(30_001)
    world.sweep()
    assert world.state(transfer_id) == "running"
    world.ledger.release(world.lease(transfer_id, 1), "wait", delay_ms=30_000, reason="disk_full", error=ERROR)

    assert "admit" in world.kinds()

    assert world.slots() == set()
    world.pass_time(30_001)
    assert "admit" in world.kinds()
    assert world.state(transfer_id) == "queued"
    assert [each.args for each in world.ledger.admit()] == [(transfer_id, 2)]


def test_a_part_done_in_between_starts_the_half_minute_anew(world: World) -> None:
    transfer_id, other = waiting(world, parts=3)
    world.finish(other)
    world.pass_time(30_001)
    world.sweep()
    world.finish(world.lease(transfer_id, 1))
    world.ledger.release(world.lease(transfer_id, 2), "wait", delay_ms=30_000, reason="disk_full", error=ERROR)

    world.sweep()

    assert world.slots() == {transfer_id}


def test_a_preparation_that_waits_prepares_again(world: World) -> None:
    transfer_id = world.submit()
    world.ledger.admit()
    lease = world.prepare_lease(transfer_id)
    world.ledger.prepare_failed(lease, "wait", delay_ms=20_000, reason="credential", data=ERROR)
    assert (world.state(transfer_id), world.reason(transfer_id)) == ("waiting", "credential")

    world.pass_time(20_001)

    assert world.sweep() == [Message("prepare", (transfer_id, 1), "haulage.control")]
    assert world.prepare_lease(transfer_id).attempt == 1


# Streams


def test_a_stream_is_one_lease_whose_parts_are_recorded_as_they_fill(world: World) -> None:
    transfer_id, armed = world.running(parts=0, in_flight=1, stream=True, size_bytes=None)
    lease = world.lease(transfer_id)
    assert (armed.lanes, lease.member) == (1, "0")

    answers = [
        world.ledger.stream_part(lease, PartReceipt(number, 10, f"e{number}", 1), None, part_count=count)
        for number, count in [(1, 0), (2, 0), (2, 0), (3, 3), (3, 3)]
    ]

    assert [(each.answer, each.done) for each in answers] == [("ok", 1), ("ok", 2), ("ok", 2), ("ok", 3), ("again", 3)]
    assert [each.last for each in answers] == [False, False, False, True, True]
    record = world.record(transfer_id)
    assert (record.plan.size_bytes, record.plan.part_count) == (30, 3)
    assert isinstance(world.claim(transfer_id, 1, 1), Drained)
    assert world.committed(world.commit_lease(transfer_id)) == "completed"


def test_a_long_stream_that_dies_begins_again_with_no_receipt_left(world: World) -> None:
    transfer_id, _ = world.running(parts=0, in_flight=1, stream=True, size_bytes=None)
    lease = world.lease(transfer_id)
    for number in range(1, 151):
        world.ledger.stream_part(lease, PartReceipt(number, 10, "e", 1), None)

    world.pass_time(LEASE_MS + 1)
    world.sweep()
    assert world.ledger.stream_part(lease, PartReceipt(151, 10, "e", 1), None).answer == "fenced"
    world.ledger.undo(world.prepare_lease(transfer_id), None)

    assert [each for each in world.keys_of(transfer_id) if each.startswith(f"{P}r:")] == []
    assert world.record(transfer_id).number("done") == 0


def test_a_long_stream_that_fails_leaves_no_receipt_that_stays_for_ever(world: World) -> None:
    transfer_id, _ = world.running(parts=0, in_flight=1, stream=True, size_bytes=None)
    lease = world.lease(transfer_id)
    for number in range(1, 151):
        world.ledger.stream_part(lease, PartReceipt(number, 10, "e", 1), None)

    world.ledger.release(lease, "fail", error=ERROR)
    world.pass_time(7 * 86_400_000 + 1)
    world.sweep()

    assert all(left > 0 for left in world.keys_of(transfer_id).values())


# Memory


def test_a_transfer_of_10_000_parts_costs_less_than_100_bytes_a_part(world: World) -> None:
    lanes, settings = 500, world.ledger.settings
    transfer_id, armed = world.running(parts=10_000, in_flight=lanes)
    before = memory(world, transfer_id)

    for seq in range(10_000 // lanes):  # a batch a round trip, or this would take long
        head = (transfer_id, armed.epoch, armed.round_no)
        claims = [(P, (*head, lane, seq, new_nonce(), "w", settings.lease_ms)) for lane in range(1, lanes + 1)]
        finishes = []
        for _, number, token, *_ in move("claim").many(world.ledger.redis, claims):
            receipt = PartReceipt(number, PART_BYTES, f'"{number:032x}"', number << 40)
            packed = pack_receipt(receipt, bytes.fromhex(token.decode().partition(".")[2]), PART_BYTES)
            finishes.append((P, (transfer_id, number, token, packed, PART_BYTES, settings.lease_ms)))
        move("finish").many(world.ledger.redis, finishes)

    assert world.record(transfer_id).number("done") == 10_000
    per_part = (memory(world, transfer_id) - before) / 10_000
    assert per_part < 100


def memory(world: World, transfer_id: str) -> int:
    return sum(int(world.client.memory_usage(name, samples=0) or 0) for name in world.keys_of(transfer_id))
