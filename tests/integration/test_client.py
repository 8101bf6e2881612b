"""The client on a real ledger: lists, actions on many, submitting many, snapshots, and its end."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from haulage import (
    ClientClosed,
    DuplicateTransfer,
    InvalidSpec,
    LedgerUnavailable,
    QueueFull,
    State,
    TransferCancelled,
    TransferClient,
    TransferFailed,
    TransferNotFound,
    WaitTimeout,
)
from orchestrator import dispatch
from orchestrator.ledger import Ledger
from orchestrator.pages import rows
from orchestrator.settings import Settings
from orchestrator.spec import build_spec, destination_identity
from tests.integration.ledger_world import ERROR, P, World
from tests.servers.process import wait_until
from tests.servers.turns_proxy import TurnsProxy
from tests.servers.valkey import Valkey

MIB = 1 << 20


@pytest.fixture
def user(client: redis.Redis, settings: Settings) -> Iterator[TransferClient]:
    with TransferClient(settings) as made:
        yield made


@pytest.fixture
def proxy(client: redis.Redis, shared_valkey: Valkey) -> Iterator[TurnsProxy]:
    with TurnsProxy(shared_valkey.port) as made:
        yield made


def with_slots(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update=fields)


def waiting(client: redis.Redis) -> list[str]:
    """Uploads in the queue, first the one that starts next."""
    found: Any = client.zrange(f"{P}queue:upload", 0, -1)
    return [each.decode() for each in found]


def mixed(user: TransferClient) -> dict[str, str]:
    """One transfer in each of some states, by name, oldest first."""
    made = {
        "paused": user.submit_paused("/from/p", "/to/paused", tenant="red", reference="r1"),
        "download": user.submit("https://h/film.mp4?sig=hunter2", "/to/film", tenant="red", reference="r2"),
        "copy": user.submit("s3://b/k", "s3://other/k", tenant="blue", reference="r3"),
        "cancelled": user.submit("/from/c", "/to/cancelled", tenant="blue"),
    }
    user.cancel(made["cancelled"])
    return made


# Lists


def test_a_list_is_filtered_by_everything_that_is_given(user: TransferClient) -> None:
    made = mixed(user)

    def names(**filters: Any) -> list[str]:
        found = {each.transfer_id for each in user.list(**filters)}
        return [name for name in made if made[name] in found]

    assert names() == ["paused", "download", "copy", "cancelled"]
    assert names(state="paused") == ["paused"]
    assert names(state=[State.CANCELLED, "paused"]) == ["paused", "cancelled"]
    assert names(state=[]) == []
    assert names(direction="upload") == ["paused", "cancelled"]
    assert names(direction="upload", tenant="blue") == ["cancelled"]
    assert names(tenant="red", reference="r2") == ["download"]
    assert names(source_contains="film") == ["download"]
    assert names(destination_contains="/to/", state="paused") == ["paused"]
    assert names(source_contains="film", destination_contains="nowhere") == []


def test_a_list_does_not_search_what_it_does_not_show(user: TransferClient) -> None:
    mixed(user)

    assert user.list(source_contains="hunter2") == []
    assert "hunter2" not in repr(user.list())


def test_pages_of_a_list_count_what_matches(user: TransferClient) -> None:
    for number in range(10):
        user.submit_paused(f"/from/{number}", f"/to/{number}", tenant="odd" if number % 2 else "even")

    pages = [[each.source for each in user.list(tenant="odd", start=start, limit=2)] for start in (0, 2, 4, 6)]

    assert pages == [["file://here/from/9", "file://here/from/7"], ["file://here/from/5", "file://here/from/3"],
                     ["file://here/from/1"], []]  # fmt: skip
    assert user.list(limit=0) == []
    for name in ("limit", "start"):
        with pytest.raises(InvalidSpec, match=name):
            user.list(**{name: -1})  # type: ignore[arg-type]  # both are numbers


def test_a_list_over_several_shards_is_in_the_order_of_time(client: redis.Redis, settings: Settings) -> None:
    with TransferClient(with_slots(settings, shards=5)) as user:
        sent = [user.submit_paused(f"/from/{number}", f"/to/{number}") for number in range(40)]
        assert len({each.split("-")[0] for each in sent}) > 1

        listed = [each.created_at for each in user.list(limit=1000)]
        assert listed == sorted(listed, reverse=True)
        assert {each.transfer_id for each in user.list(limit=1000)} == set(sent)
        assert user.find("/from/7", "/to/7") == user.get(sent[7])
        assert len(user.cancel_all().changed) == 40


def test_what_is_submitted_while_a_list_is_read_shifts_no_page(user: TransferClient, world: World) -> None:
    sent = [user.submit_paused(f"/from/{number}", f"/to/{number}") for number in range(10)]
    seen = []
    for record, _ in rows(world.ledger, {}, page_size=3):
        seen.append(record.transfer_id)
        user.submit_paused("/from/x", f"/to/new-{len(seen)}")

    assert seen == sent[::-1]


def test_a_page_goes_on_where_its_last_transfer_has_expired(user: TransferClient, world: World) -> None:
    sent = [user.submit_paused(f"/from/{number}", f"/to/{number}") for number in range(6)]
    for number, each in enumerate(sent):  # each in a millisecond of its own
        world.client.zadd(f"{P}all", {each: 1_000 + number})
    for newest_first in (True, False):
        seen = []
        for record, _ in rows(world.ledger, {}, page_size=2, newest_first=newest_first):
            seen.append(record.transfer_id)
            if len(seen) == 2:
                world.client.zrem(f"{P}all", seen[-1])
        assert seen == (sent[::-1] if newest_first else sent)
        world.client.zadd(f"{P}all", {each: 1_000 + number for number, each in enumerate(sent)})


def test_a_page_is_one_round_trip(settings: Settings, proxy: TurnsProxy) -> None:
    with TransferClient(redis_url=proxy.url, host="here", redis_retry_seconds=0) as user:
        user.submit_many([(f"/from/{number}", f"/to/{number}", {"not_before": 4e9}) for number in range(450)])
        for learn in (user.snapshot, user.list):  # Redis does not know the scripts yet
            learn()

        assert proxy.turns_of(lambda: user.list(limit=1)) == 1
        assert proxy.turns_of(lambda: user.list(limit=450)) == 3
        assert proxy.turns_of(lambda: user.list(state="failed")) == 1
        assert proxy.turns_of(lambda: user.find("/from/0", "/to/0")) == 1
        assert proxy.turns_of(user.snapshot) == 1


def test_the_newest_transfer_with_both_ends_is_found_in_any_state(user: TransferClient) -> None:
    source, target = "https://h/a?sig=1", "/to/a"
    first = user.submit(source, target)
    user.cancel(first)
    second = user.submit(source, target)
    user.cancel(second)
    other = user.submit("https://h/b", target)

    found = user.find("https://h/a?sig=renewed", target)

    assert found is not None
    assert (found.transfer_id, found.state) == (second, State.CANCELLED)
    assert user.find("https://h/b", target) == user.get(other)
    assert user.find("https://h/a", "/to/b") is None
    assert user.find(source, target, source_profile="another") is None


# Many at once


def test_actions_on_all_touch_what_they_concern_and_no_more(user: TransferClient) -> None:
    """BN-15: cancel_all; and new transfers are taken afterwards."""
    made = mixed(user)
    live = {made["download"], made["copy"]}

    assert set(user.pause_all().changed) == live
    assert user.resume_all(tenant="blue").changed == [made["copy"]]
    assert set(user.cancel_all().changed) == {*live, made["paused"]}
    assert [each.state for each in user.list()] == [State.CANCELLED] * 4
    assert user.cancel_all().changed == user.resume_all().changed == user.retry_all().changed == []
    assert user.get(user.submit("/from/p", "/to/paused")).state is State.PREPARING


def test_an_error_of_one_of_many_is_its_own(user: TransferClient, world: World) -> None:
    """Two failed transfers to one destination: only the first can be tried again."""
    failed = [fail(user, world, f"/from/{number}", "/to/same") for number in range(2)]
    third = fail(user, world, "/from/2", "/to/other")

    result = user.retry_all()

    assert result.changed == [failed[0], third]
    assert result.refused == {failed[1]: "duplicate"}
    refused = user.cancel_all(state=["cancelled", "failed", "queued", "preparing"])
    assert set(refused.changed) == {*failed, third}
    assert user.cancel_all(state="cancelled").refused == dict.fromkeys([*failed, third], "transfer_ended")


def test_a_record_that_redis_cannot_steer_does_not_stop_the_others(user: TransferClient, world: World) -> None:
    good, bad, last = [user.submit_paused(f"/from/{each}", f"/to/{each}") for each in "abc"]
    world.client.set(f"{P}e:{bad}", "no stream")

    result = user.cancel_all()

    assert result.changed == [last, good]
    assert result.refused == {bad: "ledger_unavailable"}


def test_what_is_resumed_together_queues_in_its_old_order(client: redis.Redis, settings: Settings) -> None:
    with TransferClient(with_slots(settings, upload_slots=1)) as user:
        sent = [user.submit_paused(f"/from/{number}", f"/to/{number}") for number in range(250)]

        assert user.resume_all().changed == sent

        assert waiting(client) == sent[1:]


def test_many_are_submitted_with_an_outcome_for_each(user: TransferClient) -> None:
    first = user.submit("/from/x", "/to/1")
    again = user.submit("/from/y", "/to/y", idempotency_key="once")

    outcomes = user.submit_many(
        [
            ("/from/0", "/to/0"),
            {"source": "/from/1", "destination": "/to/1"},
            ("/from/2", "/to/2", {"tenant": "red", "priority": 0}),
            ("/from/3", "/to/0"),
            ("/from/y", "/to/y", {"idempotency_key": "once"}),
        ]
    )

    assert [each.status for each in outcomes] == ["taken", "refused", "taken", "refused", "taken"]
    duplicates = [each.error for each in outcomes if isinstance(each.error, DuplicateTransfer)]
    assert [each.transfer_id for each in duplicates] == [first, outcomes[0].transfer_id]
    assert outcomes[4].transfer_id == again
    assert user.get(outcomes[2].transfer_id).tenant == "red"
    assert {each.transfer_id for each in user.list()} == {
        first,
        again,
        outcomes[0].transfer_id,
        outcomes[2].transfer_id,
    }


def test_many_start_in_the_order_they_were_given(client: redis.Redis, settings: Settings) -> None:
    with TransferClient(with_slots(settings, upload_slots=1, shards=1)) as user:
        sent = [each.transfer_id for each in user.submit_many([(f"/from/{n}", f"/to/{n}") for n in range(300)])]

        assert waiting(client) == sent[1:]


def test_a_full_queue_takes_what_slots_make_room_for(client: redis.Redis, settings: Settings) -> None:
    with TransferClient(with_slots(settings, upload_slots=3, queue_capacity=2)) as user:
        outcomes = user.submit_many([(f"/from/{number}", f"/to/{number}") for number in range(8)])

    assert [each.status for each in outcomes] == ["taken"] * 5 + ["refused"] * 3
    assert all(isinstance(each.error, QueueFull) for each in outcomes[5:])


def test_a_thousand_cost_far_less_than_a_thousand_round_trips(settings: Settings, proxy: TurnsProxy) -> None:
    items = [(f"/from/{number}", f"/to/{number}", {"not_before": 4e9}) for number in range(1000)]
    with TransferClient(redis_url=proxy.url, host="here", redis_retry_seconds=0) as user:
        turns = proxy.turns_of(lambda: user.submit_many(items))

        assert len(user.list(limit=2000)) == 1000
        assert turns < 30


def test_what_redis_did_not_answer_to_is_unknown_and_found_under_its_id(settings: Settings, proxy: TurnsProxy) -> None:
    items = [(f"/from/{number}", f"/to/{number}") for number in range(350)]
    with TransferClient(redis_url=proxy.url, host="here", redis_retry_seconds=0) as user:
        proxy.swallow = b"/to/199"
        outcomes = user.submit_many(items)

        by_status = [(each.status, each.error is None) for each in outcomes]
        assert by_status == [("taken", True)] * 100 + [("unknown", False)] * 100 + [("refused", False)] * 150
        assert all(isinstance(each.error, LedgerUnavailable) for each in outcomes[100:])
        assert user.get(outcomes[150].transfer_id).destination == "file://here/to/150"
        again = user.submit_many(items)
        assert [each.status for each in again] == ["refused"] * 200 + ["taken"] * 150
        assert [each.error.transfer_id for each in again[100:200] if isinstance(each.error, DuplicateTransfer)] == [
            each.transfer_id for each in outcomes[100:200]
        ]


def test_a_lost_reply_that_is_asked_for_again_doubles_nothing(settings: Settings, proxy: TurnsProxy) -> None:
    items = [(f"/from/{number}", f"/to/{number}") for number in range(250)]
    with TransferClient(redis_url=proxy.url, host="here", redis_retry_seconds=5) as user:
        proxy.swallow = b"/to/199"
        outcomes = user.submit_many(items)

        assert {each.status for each in outcomes} == {"taken"}
        assert {each.transfer_id for each in user.list(limit=1000)} == {each.transfer_id for each in outcomes}


def test_a_redis_without_memory_refuses_each_of_many(client: redis.Redis, user: TransferClient) -> None:
    client.config_set("maxmemory", 1)
    try:
        outcomes = user.submit_many([("/from/a?secret", "/to/a"), ("/from/b", "/to/b")])
    finally:
        client.config_set("maxmemory", 0)

    assert [(each.status, each.error.code if each.error else "") for each in outcomes] == [
        ("refused", "submit_failed"),
        ("refused", "submit_failed"),
    ]
    assert "secret" not in str(outcomes[0].error)


def test_a_paused_import_is_one_write_and_nothing_else(settings: Settings, proxy: TurnsProxy) -> None:
    """RC-05: three are registered, two are resumed, and the third stays as it is."""
    with TransferClient(redis_url=proxy.url, host="here", redis_retry_seconds=0) as user:
        user.list()
        user.submit_paused("/from/0", "/to/0")
        assert proxy.turns_of(lambda: user.submit_paused("/from/1", "/to/1", destination_profile="unheard-of")) == 1
        third = user.submit_paused("/nowhere/at/all", "/to/2")
        seen = user.get(third)
        assert (seen.state, seen.progress.ratio) == (State.PAUSED, 0.0)

        for each in user.list(limit=3)[1:]:
            user.resume(each.transfer_id)

        assert [each.state for each in user.list()] == [State.PAUSED, State.PREPARING, State.PREPARING]


# Directions, paths, slots


def test_a_local_path_may_be_relative_where_it_can_only_be_a_path(
    user: TransferClient, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    up = user.get(user.upload("a b.bin", "s3://bucket/k"))
    down = user.get(user.download("https://h/x", tmp_path / "y"))
    folder = user.get(user.download("https://h/x", "into/"))

    assert (up.direction, up.source) == ("upload", f"file://here{tmp_path}/a%20b.bin")
    assert (down.direction, down.destination) == ("download", f"file://here{tmp_path}/y")
    assert folder.destination == f"file://here{tmp_path}/into/"
    assert user.get(user.copy("s3://bucket/a", "s3://bucket/b")).direction == "copy"
    assert user.get(user.upload("mem:a", "/to/local")).direction == "upload"


def test_a_full_direction_never_blocks_the_other(client: redis.Redis, settings: Settings) -> None:
    """RC-24, BN-04: a slot is held for the whole life of a transfer; queues are first in, first out."""
    with TransferClient(with_slots(settings, upload_slots=1, download_slots=2)) as user:
        uploads = [user.upload(f"/from/{number}", f"s3://b/{number}") for number in range(5)]
        downloads = [user.download(f"https://h/{number}", f"/to/{number}") for number in range(5)]

        now = user.snapshot()
        assert (now.active, now.queued) == (3, 7)
        assert sorted(direction for direction, _ in now.active_keys) == ["download", "download", "upload"]
        user.cancel(uploads[0])
        active = {each.transfer_id for each in user.list(state="preparing")}
        assert active == {uploads[1], downloads[0], downloads[1]}


def test_a_snapshot_shows_what_is_at_work_and_what_waits(client: redis.Redis, settings: Settings) -> None:
    """RC-10: one of three has the slot; a paused one is counted nowhere. RC-02: clients see the same fleet."""
    with TransferClient(with_slots(settings, upload_slots=1)) as user, TransferClient(settings) as other:
        sent = [user.submit(f"/from/{number}", f"/to/{number}") for number in range(3)]
        now = user.snapshot()
        assert (now.active, now.queued) == (1, 2)
        spec, _, target = build_spec(settings, source="/from/0", destination="/to/0")
        assert now.active_keys == [("upload", destination_identity(spec, target))]

        user.pause(sent[2])

        assert other.snapshot() == user.snapshot()
        assert (user.snapshot().active, user.snapshot().queued) == (1, 1)


def test_a_snapshot_of_many_counts_each_once(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.pages._STATES", 50)
    with TransferClient(with_slots(settings, shards=2)) as user:
        sent = user.submit_many([(f"/from/{number}", f"/to/{number}") for number in range(1500)])
        user.pause(sent[-1].transfer_id)

        now = user.snapshot()

    assert now.active == settings.upload_slots == len(set(now.active_keys))
    assert now.queued == 1500 - now.active - 1


def test_a_destination_is_free_again_once_its_transfer_has_ended(user: TransferClient) -> None:
    """RC-38, RC-39: a key is live while queued, running or paused; the second call itself is refused."""
    first = user.submit_paused("/from/a", "/to/a")
    for source in ("/from/a", "/from/b"):
        with pytest.raises(DuplicateTransfer) as caught:
            user.submit(source, "/to/a")
        assert caught.value.transfer_id == first

    user.cancel(first)

    assert user.submit("/from/a", "/to/a") != first


# Waiting and rates


def test_waiting_for_several_answers_all_in_the_order_asked_however_they_ended(
    user: TransferClient, world: World
) -> None:
    lost, dropped = fail(user, world, "/from/0", "/to/0"), user.submit("/from/1", "/to/1")
    with pytest.raises(WaitTimeout, match="1 transfers"):
        user.wait_all([dropped, lost], timeout_seconds=0)
    user.cancel(dropped)

    ended = user.wait_all([dropped, lost, dropped])

    assert [each.state for each in ended] == [State.CANCELLED, State.FAILED, State.CANCELLED]
    assert user.wait_all([]) == []
    with pytest.raises(TransferNotFound):
        user.wait_all(["s0-none"])
    with pytest.raises(TransferCancelled):
        user.wait(dropped)
    with pytest.raises(TransferFailed) as caught:
        user.wait(lost)
    assert (caught.value.code, caught.value.number, caught.value.status) == ("transport", 106, 502)


def test_a_rate_shows_once_this_client_has_seen_the_bytes_move(
    user: TransferClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer_id = user.submit("/from/a", "/to/a")
    lease = world.prepare_lease(transfer_id)
    world.prepared(lease, parts=4, in_flight=1, size_bytes=40)
    part = world.lease(transfer_id)
    assert user.get(transfer_id).progress.bytes_per_second == 0.0

    world.ledger.renew([(part, 6)], "worker")
    clock = time.monotonic
    monkeypatch.setattr(user._held.views._rates, "_clock", lambda: clock() + 2)
    moving = user.get(transfer_id).progress

    assert (moving.durable_bytes, moving.received_bytes) == (0, 6)
    assert 0 < moving.bytes_per_second <= 3
    assert moving.bytes_per_second == moving.smoothed_bytes_per_second
    user.pause(transfer_id)
    assert user.get(transfer_id).progress.bytes_per_second == 0.0


# Threads, and the end


def test_fifty_first_calls_at_once_make_one_ledger_and_one_dispatcher(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RC-01."""
    made: list[str] = []
    start = threading.Barrier(50)

    def ledger_made(self: Ledger, *args: Any) -> None:
        made.append("ledger")
        real_init(self, *args)

    def app_made(settings: Settings) -> Any:
        made.append("app")
        return real_app(settings)

    real_init, real_app = Ledger.__init__, dispatch.make_app
    monkeypatch.setattr(Ledger, "__init__", ledger_made)
    monkeypatch.setattr(dispatch, "make_app", app_made)
    with TransferClient(settings) as user, ThreadPoolExecutor(50) as pool:

        def submit(number: int) -> str:
            start.wait(30)
            return user.submit(f"/from/{number}", f"/to/{number}")

        sent = list(pool.map(submit, range(50)))

        assert sorted(made) == ["app", "ledger"]
        assert {each.transfer_id for each in user.list()} == set(sent)


def test_shutting_down_cancels_what_this_client_submitted_and_nothing_else(
    user: TransferClient, settings: Settings
) -> None:
    """BN-16, BN-15: afterwards every call is an error, and a second shutdown is none."""
    theirs = user.submit("/from/0", "/to/0")
    with TransferClient(settings) as mine:
        sent = [mine.submit("/from/1", "/to/1"), mine.submit_paused("/from/2", "/to/2")]
        sent += [each.transfer_id for each in mine.submit_many([("/from/3", "/to/3"), ("/from/4", "/to/0")])[:1]]

        mine.shutdown(cancel=True)
        mine.shutdown(cancel=True)

        assert mine.is_closed
        with pytest.raises(ClientClosed):
            mine.submit("/from/9", "/to/9")
    assert {user.get(each).state for each in sent} == {State.CANCELLED}
    assert user.get(theirs).state is State.PREPARING


def test_closing_leaves_the_transfers_to_the_fleet(user: TransferClient, settings: Settings) -> None:
    """RC-40: another client of the same fleet finds all of it."""
    with TransferClient(settings) as mine:
        sent = mine.submit("/from/1", "/to/1")

    assert user.get(sent).state is State.PREPARING
    assert user.list()[0].transfer_id == sent


def test_events_that_are_followed_end_with_an_error_when_the_client_closes(settings: Settings, world: World) -> None:
    mine = TransferClient(settings)
    mine.submit("/from/1", "/to/1")
    events = mine.events()
    assert next(events).kind == "queued"

    mine.close()

    with pytest.raises(ClientClosed):
        next(events)


def test_calls_under_way_when_the_client_closes_have_their_answer_and_give_their_connections_back(
    client: redis.Redis, shared_valkey: Valkey, proxy: TurnsProxy
) -> None:
    connections = len(client.client_list())
    mine = TransferClient(redis_url=proxy.url, host="here", redis_retry_seconds=0)
    sent = mine.submit_paused("/from/1", "/to/1")

    with ThreadPoolExecutor(2) as pool:
        with shared_valkey.frozen():
            before = proxy.turns
            got, waited = pool.submit(mine.get, sent), pool.submit(mine.wait, sent)
            wait_until(lambda: proxy.turns == before + 2, "both are under way")
            mine.close()

        assert got.result(30).transfer_id == sent
        with pytest.raises(ClientClosed):
            waited.result(30)
    wait_until(lambda: len(client.client_list()) == connections, "the end of the connections")


def test_a_client_that_is_dropped_without_close_is_warned_about_and_its_threads_end(
    client: redis.Redis, settings: Settings
) -> None:
    """RC-12."""
    before = threading.active_count()
    dropped = TransferClient(settings)
    dropped.on_progress(lambda update: None)
    assert threading.active_count() > before

    with pytest.warns(ResourceWarning, match="without close"):
        del dropped

    wait_until(lambda: threading.active_count() == before, "the end of its threads", deadline_seconds=30)


def test_a_client_that_was_closed_or_never_used_is_dropped_in_silence(client: redis.Redis, settings: Settings) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # what other tests left behind
        warnings.simplefilter("error")
        used = TransferClient(settings)
        used.list()
        used.close()
        unused = TransferClient(settings)
        del used, unused
        gc.collect()


def test_what_has_ended_is_forgotten_by_the_client_that_submitted_it(
    user: TransferClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user._held, "_tidy_at", 4)
    sent = [user.submit(f"/from/{number}", f"/to/{number}") for number in range(3)]
    user.cancel(sent[0])

    last = user.submit("/from/3", "/to/3")

    assert user._held.mine() == [last, sent[2], sent[1]]


def fail(user: TransferClient, world: World, source: str, target: str) -> str:
    """A transfer that failed while it was prepared."""
    transfer_id = user.submit(source, target)
    lease = world.prepare_lease(transfer_id)
    assert world.ledger.prepare_failed(lease, "fail", data={**ERROR, "status": 502}) == "failed"
    return transfer_id
