"""The outbox: every end of a transfer that asked for it is told to its application, at least once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator.ledger import Ledger, new_nonce
from orchestrator.notices import Notice, Outbox
from orchestrator.settings import load_settings
from tests.integration.ledger_world import ERROR, LEASE_MS, World
from tests.servers.process import wait_until
from tests.servers.valkey import Valkey
from workers.notices import Courier

TOLD: dict[str, Any] = {
    "spec": '{"source":"https://x/?sig=cAnArY","notify":{"task":"app.ended"}}',
    "reference": "row 7",
    "tenant": "t",
}
WEEK_MS = 7 * 86400 * 1000
NOBODY_ELSE = {"reference": "row 7", "tenant": "t"}


@pytest.fixture
def outbox(world: World) -> Outbox:
    return Outbox(world.ledger)


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Valkey]:
    """The application's own broker, not started yet."""
    server = Valkey(tmp_path / "broker")
    yield server
    server.kill()


@pytest.fixture
def courier(world: World, shared_valkey: Valkey, away: Valkey) -> Iterator[Courier]:
    settings = load_settings(redis_url=shared_valkey.url, host="here", notify_broker_url=away.url)
    courier = Courier(Ledger(world.ledger.redis, settings))
    yield courier
    courier.close()


def completed(world: World) -> str:
    transfer_id, _ = world.running(parts=1, **TOLD)
    world.move_all(transfer_id)
    world.committed(world.commit_lease(transfer_id), data={"etag": "x", "size_bytes": 1 << 45})
    return transfer_id


def failed(world: World) -> str:
    transfer_id, _ = world.running(**TOLD)
    world.ledger.release(world.lease(transfer_id), "fail", error=ERROR)
    return transfer_id


def cancelled(world: World) -> str:
    transfer_id = world.submit(**TOLD)
    world.ledger.steer(transfer_id, "cancel")
    return transfer_id


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (completed, {"code": "", "number": 0, "message": "", "result": {"etag": "x", "size_bytes": 1 << 45}}),
        (failed, {"code": "transport", "number": 106, "message": "reset", "result": {}}),
        (cancelled, {"code": "cancelled", "number": 120, "message": "cancelled", "result": {}}),
    ],
)
def test_each_end_puts_one_notice_with_its_outcome_into_the_outbox(
    world: World, outbox: Outbox, end: Any, outcome: dict[str, Any]
) -> None:
    transfer_id = end(world)

    (notice,) = outbox.claim()

    assert (notice.transfer_id, notice.task, notice.queue) == (transfer_id, "app.ended", "celery")
    assert notice.outcome == {"state": end.__name__, **outcome, **NOBODY_ELSE}
    assert notice.name.startswith(f"{transfer_id}.")
    assert "cAnArY" not in str(notice)


def test_only_who_asks_is_told(world: World, outbox: Outbox) -> None:
    world.completed()
    transfer_id = world.submit("other", spec='{"headers":{"notify":"me"},"reference":"\\"notify\\":"}')
    world.ledger.steer(transfer_id, "cancel")

    assert outbox.claim() == []


def test_ten_couriers_send_a_notice_once_and_again_when_its_sender_died(world: World, outbox: Outbox) -> None:
    completed(world)

    (first,) = [notice for _ in range(10) for notice in outbox.claim()]
    world.pass_time(2 * LEASE_MS + 1)
    (second,) = [notice for _ in range(10) for notice in outbox.claim()]
    outbox.taken(second)
    outbox.not_taken(first)  # the one believed dead wakes up
    world.pass_time(60 * LEASE_MS)

    assert first.name == second.name
    assert outbox.claim() == []
    assert list(world.client.scan_iter("*notice*")) == []


def test_a_cancelled_transfer_is_told_of_when_its_clean_up_was_tried(world: World, outbox: Outbox) -> None:
    transfer_id, _ = world.running(**TOLD)
    world.ledger.steer(transfer_id, "cancel")
    assert outbox.claim() == []
    granted = world.ledger.abort_claim(transfer_id, "w", new_nonce())
    assert isinstance(granted, tuple)

    world.ledger.aborted(granted[0], fine=False, delay_ms=1_000, error=ERROR)
    world.ledger.aborted(granted[0], fine=True)

    assert [each.outcome["state"] for each in outbox.claim()] == ["cancelled"]


def test_the_second_end_of_a_transfer_that_was_tried_again_is_a_notice_of_its_own(world: World, outbox: Outbox) -> None:
    transfer_id = failed(world)
    world.ledger.steer(transfer_id, "retry")
    world.ledger.steer(transfer_id, "cancel")
    world.ledger.aborted(world.ledger.abort_claim(transfer_id, "w", new_nonce())[0], fine=True)  # type: ignore[arg-type]

    notices = outbox.claim()

    assert [each.outcome["state"] for each in notices] == ["failed", "cancelled"]
    assert len({each.name for each in notices}) == 2


def test_a_notice_rings_and_the_sweep_rings_again(world: World, outbox: Outbox) -> None:
    completed(world)
    assert world.client.lpop("hl:{s0}:bell") == b"1"

    world.sweep()

    assert world.client.lrange("hl:{s0}:bell", 0, -1) == [b"1"]


def letters(broker: Valkey, queue: str = "celery") -> list[tuple[str, str, list[Any]]]:
    """(task, task id, arguments) of the messages that wait in a queue of a broker."""
    rows: Any = broker.client().lrange(queue, 0, -1)
    messages = [json.loads(each) for each in reversed(rows)]
    return [
        (each["headers"]["task"], each["headers"]["id"], json.loads(base64.b64decode(each["body"]))[0])
        for each in messages
    ]


def test_a_broker_that_is_away_loses_nothing_and_is_asked_less_and_less(
    world: World, outbox: Outbox, courier: Courier, away: Valkey
) -> None:
    ids = [completed(world), cancelled(world)]
    waits = []
    for _ in range(3):
        assert courier.deliver() == 0
        clock: Any = world.client.time()
        now = clock[0] * 1000 + clock[1] // 1000
        waits.append(
            round(min(due for _, due in world.client.zrange("hl:{s0}:outbox", 0, -1, withscores=True)) - now, -2)
        )
        world.pass_time(5_000)

    with away:
        assert courier.deliver() == 2
        told = letters(away)

    assert waits == [500, 1_000, 2_000]
    assert [(task, args[0], args[1]["state"]) for task, _, args in told] == [
        ("app.ended", ids[0], "completed"),
        ("app.ended", ids[1], "cancelled"),
    ]
    assert outbox.claim() == []


def test_what_no_broker_takes_for_as_long_as_records_are_kept_is_given_up(world: World, courier: Courier) -> None:
    old = completed(world)
    world.pass_time(WEEK_MS + 1)
    young = cancelled(world)

    assert courier.deliver() == 0

    assert [each.decode().partition(".")[0] for each in world.client.zrange("hl:{s0}:outbox", 0, -1)] == [young]
    assert world.client.keys(f"hl:{{s0}}:notice:{old}*") == []


def test_an_old_notice_is_sent_all_the_same_when_its_broker_is_back(
    world: World, courier: Courier, away: Valkey
) -> None:
    completed(world)
    world.pass_time(WEEK_MS + 1)

    with away:
        assert courier.deliver() == 1


def test_a_notice_that_somebody_removed_holds_up_no_other(world: World, outbox: Outbox) -> None:
    removed, kept = completed(world), cancelled(world)
    world.client.delete(f"hl:{{s0}}:notice:{removed}.1")

    assert [each.transfer_id for each in outbox.claim()] == [kept]
    assert world.client.zcard("hl:{s0}:outbox") == 1


def test_a_notice_sent_twice_has_one_task_id(world: World, outbox: Outbox, courier: Courier, away: Valkey) -> None:
    completed(world)
    with away:
        (lost,) = outbox.claim()
        assert courier._send(lost) is None  # and then its sender dies
        world.pass_time(2 * LEASE_MS + 1)
        assert courier.deliver() == 1
        told = letters(away)

    assert [name for _, name, _ in told] == [lost.name, lost.name]
    assert told[0] == told[1]


def test_a_queue_that_refuses_a_notice_holds_up_no_other(world: World, courier: Courier, away: Valkey) -> None:
    refused, fine = completed(world), cancelled(world)
    with away:
        away.client().set("wrong", "no list")
        world.client.hset(f"hl:{{s0}}:notice:{refused}.1", "queue", "wrong")
        assert courier.deliver() == 1
        told = letters(away)

    assert [args[0] for _, _, args in told] == [fine]
    assert world.client.zcard("hl:{s0}:outbox") == 1


def test_a_courier_is_woken_by_the_bell(world: World, courier: Courier, away: Valkey) -> None:
    with away:
        courier.start()
        transfer_id = completed(world)

        wait_until(lambda: bool(letters(away)), "the notice is in the queue")

        assert letters(away)[0][2][0] == transfer_id


def test_the_waits_for_a_broker_grow_to_a_minute() -> None:
    waits = [Notice("n", "t", "task", "q", tries, {}).next_wait_ms for tries in (1, 2, 7, 8, 1_000)]

    assert waits == [500, 1_000, 32_000, 60_000, 60_000]


def test_notices_of_all_shards_are_found(client: redis.Redis, shared_valkey: Valkey) -> None:
    settings = load_settings(redis_url=shared_valkey.url, host="here", shards=4, redis_retry_seconds=0)
    with redis.Redis.from_url(shared_valkey.url) as own:
        ledger = Ledger(own, settings)
        for shard in range(4):
            identity = f"{shard:08x}".ljust(32, "0")
            where = {"destination": identity, "direction": "copy", "priority": 5, "spec": TOLD["spec"]}
            ledger.steer(ledger.submit(ledger.new_id(identity), **where).transfer_id, "cancel")

        found = Outbox(ledger).claim()

    assert sorted(each.transfer_id[:2] for each in found) == ["s0", "s1", "s2", "s3"]
