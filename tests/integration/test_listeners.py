"""Callbacks on progress (RC-33 to RC-36, BN-09, BN-10): in order, on one thread, and harmless to everything else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.connection import connect
from orchestrator.errors import ClientClosed, InvalidSpec, RuntimeFailed, TransferNotFound
from orchestrator.ledger import Ledger
from orchestrator.listeners import Listeners, Update
from orchestrator.mailbox import QUEUE_LIMIT, Listener, Mailbox
from orchestrator.records import Lease
from orchestrator.settings import load_settings
from orchestrator.views import Views
from tests.e2e.fleet import CHECKOUT
from tests.integration.ledger_world import PART_BYTES, World
from tests.servers.process import wait_until
from tests.servers.valkey import Valkey

THREADS = {"haulage-listeners", "haulage-callbacks"}
QUICK = 0.01


@pytest.fixture
def listeners(world: World) -> Iterator[Listeners]:
    made = Listeners(lambda: world.ledger, Views(list).view)
    yield made
    made.close()
    wait_until(lambda: not running(), "the threads have ended")


def running() -> set[str]:
    return {each.name for each in threading.enumerate()} & THREADS


def kinds(updates: list[Update]) -> list[str]:
    """Kinds of the state changes among them."""
    return [each.event.kind for each in updates if each.event]


def frames(updates: list[Update]) -> list[Update]:
    return [each for each in updates if each.event is None]


def complete(world: World, transfer_id: str) -> None:
    world.committed(world.commit_lease(transfer_id), data={"size_bytes": 30})


def test_a_listener_hears_the_whole_story_even_if_it_comes_late(world: World, listeners: Listeners) -> None:
    """RC-34: a listener of an ended transfer hears its end."""
    transfer_id = world.completed()
    updates: list[Update] = []

    listeners.add(updates.append, transfer_id)

    wait_until(lambda: kinds(updates)[-1:] == ["completed"], "the end is told")
    assert kinds(updates) == ["queued", "probed", "started", "completed"]
    assert frames(updates)[-1].transfer.progress.ratio == 1.0


def test_frames_show_durable_and_received_bytes_apart_and_end_with_the_whole(
    world: World, listeners: Listeners
) -> None:
    """RC-32, BN-09."""
    transfer_id, _ = world.running(parts=3, in_flight=1)
    updates: list[Update] = []
    listeners.add(updates.append, transfer_id, interval_seconds=QUICK)

    def shown() -> tuple[int, int, int | None]:
        progress = frames(updates)[-1].transfer.progress if frames(updates) else None
        return (progress.durable_bytes, progress.received_bytes, progress.total_bytes) if progress else (-1, -1, -1)

    wait_until(lambda: shown() == (0, 0, 30), "the early total")
    lease = world.lease(transfer_id)
    world.ledger.renew([(lease, 7)], "worker")
    wait_until(lambda: shown() == (0, 7, 30), "received bytes")
    world.finish(lease)
    wait_until(lambda: shown() == (PART_BYTES, PART_BYTES, 30), "durable bytes")
    world.move_all(transfer_id, seq=lease.next_seq)
    complete(world, transfer_id)
    wait_until(lambda: kinds(updates)[-1:] == ["completed"], "the end")

    durable = [each.transfer.progress.durable_bytes for each in frames(updates)]
    assert durable == sorted(durable)
    assert frames(updates)[-1].transfer.progress.ratio == 1.0
    assert updates[-1].transfer.progress.ratio == 1.0
    assert updates[-1].transfer.progress.eta_seconds == 0.0


def test_a_resumed_transfer_shows_where_it_goes_on_before_a_byte_is_moved(world: World, listeners: Listeners) -> None:
    """RC-33: resume at 40 %."""
    transfer_id, _ = world.running(parts=5, in_flight=1)
    first = world.lease(transfer_id)
    world.finish(first)
    world.finish(world.lease(transfer_id, seq=first.next_seq))
    world.ledger.steer(transfer_id, "pause")
    world.ledger.steer(transfer_id, "resume")
    world.ledger.admit()
    updates: list[Update] = []
    listeners.add(updates.append, transfer_id)
    wait_until(lambda: "resumed" in kinds(updates), "the past is told")

    world.prepared(world.prepare_lease(transfer_id), parts=5)

    wait_until(lambda: kinds(updates).count("started") == 2 and updates[-1].event is None, "a frame after the start")
    started = [each.event for each in updates if each.event and each.event.kind == "started"][-1]
    assert (started.data["done_bytes"], started.data["size_bytes"]) == (20, 50)
    assert frames(updates)[-1].transfer.progress.ratio == 0.4


def test_those_of_the_transfer_come_first_then_those_of_all_in_the_order_they_came(
    world: World, listeners: Listeners
) -> None:
    """RC-35."""
    calls: list[tuple[str, str, str]] = []

    def named(name: str) -> Callable[[Update], None]:
        return lambda update: calls.append(
            (name, update.transfer.transfer_id, update.event.kind if update.event else "")
        )

    mine = world.submit("mine")
    for name in ("all 1", "all 2"):
        listeners.add(named(name))
    for name in ("mine 1", "mine 2"):
        listeners.add(named(name), mine)
    other = world.submit("other")
    wait_until(lambda: ("mine 2", mine, "queued") in calls and ("all 2", other, "queued") in calls, "the past is told")
    calls.clear()

    world.ledger.steer(mine, "pause")
    world.ledger.steer(other, "cancel")

    wait_until(lambda: ("all 2", other, "cancelled") in calls, "all is told")
    assert [each for each in calls if each[1] == mine] == [
        (name, mine, "paused") for name in ("mine 1", "mine 2", "all 1", "all 2")
    ]
    assert [each for each in calls if each[1] == other] == [(name, other, "cancelled") for name in ("all 1", "all 2")]


def test_a_listener_may_add_and_remove_inside_its_own_call(world: World, listeners: Listeners) -> None:
    """RC-35: nothing deadlocks, and the list is copied before the calls."""
    removed: list[bool] = []
    late: list[Update] = []

    def change(update: Update) -> None:
        if update.event and not removed:
            removed.append(listeners.remove(own))
            listeners.add(late.append, update.transfer.transfer_id)

    own = listeners.add(change)
    transfer_id = world.submit()
    wait_until(lambda: kinds(late) == ["queued"], "the new one hears")
    world.ledger.steer(transfer_id, "cancel")
    wait_until(lambda: kinds(late) == ["queued", "cancelled"], "the new one goes on")

    assert removed == [True]
    assert listeners.remove(own) is False
    assert listeners.remove("nobody") is False


def test_one_that_raises_or_exits_harms_nobody(
    world: World, listeners: Listeners, caplog: pytest.LogCaptureFixture
) -> None:
    """RC-36."""
    heard: list[Update] = []

    def bad(update: Update) -> None:
        raise SystemExit if update.event and update.event.kind == "queued" else ValueError("mine")

    for callback in (bad, heard.append):
        listeners.add(callback)
    transfer_id = world.submit()
    world.ledger.steer(transfer_id, "cancel")

    wait_until(lambda: kinds(heard) == ["queued", "cancelled"], "the other hears all")
    assert [each.name for each in caplog.records] == ["orchestrator.runner"] * 2


def test_no_state_change_is_lost_while_a_callback_sleeps(world: World, listeners: Listeners) -> None:
    """RC-36: more changes than the queue holds; control calls are answered meanwhile."""
    gate, updates = threading.Event(), list[Update]()

    def slow(update: Update) -> None:
        gate.wait()
        updates.append(update)

    listeners.add(slow)
    ids = []
    for number in range(QUEUE_LIMIT // 2 + 50):
        ids.append(world.submit(f"{number}"))
        assert world.ledger.steer(ids[-1], "cancel") == ("ok", "cancelled")

    gate.set()

    expected = [(each, kind) for each in ids for kind in ("queued", "cancelled")]
    wait_until(lambda: len(kinds(updates)) == len(expected), "all is told")
    assert [(each.transfer.transfer_id, each.event.kind) for each in updates if each.event] == expected


def test_only_frames_are_dropped_when_ten_thousand_wait(world: World, listeners: Listeners) -> None:
    """RC-36, on the queue itself: order is kept, and the bound holds for what may be dropped."""
    mailbox, view = Mailbox(), Views(list).view
    transfer = view(world.record(world.submit()))
    nobody = Listener("", print, None, 1.0, {})
    sent = [Update(transfer) for _ in range(10_000)]

    for each in sent:
        mailbox.put(nobody, each, droppable=True)
    end = Update(transfer)
    waiting = threading.Thread(target=lambda: mailbox.put(nobody, end, droppable=False))
    waiting.start()
    got = [mailbox.get() for _ in range(QUEUE_LIMIT + 1)]
    waiting.join()

    assert [each[1] for each in got if each] == [*sent[:QUEUE_LIMIT], end]
    assert all(one is other for one, other in zip([each[1] for each in got if each], sent[:QUEUE_LIMIT], strict=False))


def test_nothing_runs_without_a_listener(world: World, listeners: Listeners) -> None:
    assert running() == set()
    one, two = listeners.add(print), listeners.add(print, world.submit())
    assert running() == THREADS

    listeners.remove(one)
    assert running() == THREADS
    listeners.remove(two)

    wait_until(lambda: running() == set(), "the threads have ended")
    listeners.add(print)
    assert running() == THREADS
    listeners.clear()
    wait_until(lambda: running() == set(), "they end again")


def test_redis_is_not_asked_again_for_a_transfer_that_is_final(world: World, listeners: Listeners) -> None:
    transfer_id = world.submit()
    updates: list[Update] = []
    for _ in range(3):
        listeners.add(updates.append, transfer_id, interval_seconds=QUICK)
    world.ledger.steer(transfer_id, "cancel")
    wait_until(lambda: kinds(updates).count("cancelled") == 3, "all have heard")

    def looks() -> int:
        stats: Any = world.client.info("commandstats")
        return int(stats["cmdstat_xread"]["calls"])

    before = looks()
    late: list[Update] = []
    listeners.add(late.append, transfer_id)
    wait_until(lambda: kinds(late) == ["queued", "cancelled"], "the new one hears")

    assert looks() <= before + 2  # one that was under way, and one for the new listener


def test_closing_delivers_what_has_happened(world: World, listeners: Listeners) -> None:
    """RC-11: also what the last look had not seen, to a callback that takes its time."""
    updates: list[Update] = []

    def slow(update: Update) -> None:
        time.sleep(0.05)
        updates.append(update)

    listeners.add(slow, interval_seconds=60)
    transfer_id = world.submit()
    world.ledger.steer(transfer_id, "cancel")

    listeners.close()

    assert kinds(updates) == ["queued", "cancelled"]
    assert running() == set()
    with pytest.raises(ClientClosed):
        listeners.add(print)


def test_closing_inside_a_callback_does_not_deadlock(world: World, listeners: Listeners) -> None:
    """RC-11: and it delivers what has happened by then."""
    all_happened, updates = threading.Event(), list[Update]()

    def close(update: Update) -> None:
        all_happened.wait(30)
        listeners.close()
        updates.append(update)

    listeners.add(close)
    world.ledger.steer(world.submit(), "cancel")
    all_happened.set()

    wait_until(lambda: running() == set(), "the threads have ended")
    assert kinds(updates) == ["queued", "cancelled"]


def test_what_cannot_be_listened_to_is_refused(world: World, listeners: Listeners) -> None:
    with pytest.raises(TransferNotFound):
        listeners.add(print, "s0-gone")
    with pytest.raises(InvalidSpec, match="interval_seconds"):
        listeners.add(print, interval_seconds=0)

    assert running() == set()


def test_a_machine_without_a_thread_to_spare_says_so(listeners: Listeners, monkeypatch: pytest.MonkeyPatch) -> None:
    """RC-01: code 101. No machine can be brought to this without harm, so the start is made to fail."""

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeFailed) as raised:
            listeners.add(print)

    assert raised.value.number == 101
    listeners.add(print)
    assert running() == THREADS


def test_listening_goes_on_after_redis_was_away(tmp_path: Path) -> None:
    with Valkey(tmp_path / "redis", appendfsync="always") as server:
        settings = load_settings(redis_url=server.url, host="here", redis_retry_seconds=0)
        with connect(settings) as own:
            world = World(own, Ledger(own, settings))
            listeners = Listeners(lambda: world.ledger, Views(list).view)
            updates: list[Update] = []
            listeners.add(updates.append)
            transfer_id = world.submit()
            wait_until(lambda: kinds(updates) == ["queued"], "the first event")

            server.restart()
            world.ledger.steer(transfer_id, "cancel")

            wait_until(lambda: kinds(updates) == ["queued", "cancelled"], "the event after")
            listeners.close()


FORK = """
import os, sys, threading
from orchestrator.connection import connect
from orchestrator.ledger import Ledger
from orchestrator.listeners import Listeners
from orchestrator.settings import load_settings
from orchestrator.views import Views
settings = load_settings(redis_url=sys.argv[1], host="here")
ledger = Ledger(connect(settings), settings)
listeners = Listeners(lambda: ledger, Views(lambda: []).view)
heard, inherited = [], []
listeners.add(inherited.append, sys.argv[2])
if os.fork() == 0:
    known = len(inherited)
    listeners.add(heard.append, sys.argv[2])
    ledger.steer(sys.argv[2], "cancel")
    listeners.close()
    alone = len(threading.enumerate()) == 1
    os._exit(0 if heard[-1].event.kind == "cancelled" and len(inherited) == known and alone else 1)
_, status = os.wait()
listeners.close()
sys.exit(os.waitstatus_to_exitcode(status) or (0 if inherited else 2))
"""


def test_a_forked_process_has_threads_of_its_own(world: World, shared_valkey: Valkey) -> None:
    argv = [sys.executable, "-W", "ignore", "-c", FORK, shared_valkey.url, world.submit()]

    ended = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr


def test_thousands_of_parts_are_a_handful_of_events(world: World, listeners: Listeners) -> None:
    """RC-36: the cost of progress does not grow with the parts."""
    transfer_id, _ = world.running(parts=2_000, in_flight=1)
    updates: list[Update] = []
    listeners.add(updates.append, transfer_id, interval_seconds=QUICK)
    seq = 0
    while isinstance(claim := world.claim(transfer_id, 1, seq), Lease):
        world.finish(claim)
        seq = claim.next_seq
    complete(world, transfer_id)
    wait_until(lambda: kinds(updates)[-1:] == ["completed"], "the end")

    ratios = [each.transfer.progress.ratio for each in frames(updates)]
    assert all(one <= other for one, other in pairwise(ratios))
    assert world.events(transfer_id).count("progress") <= 101
