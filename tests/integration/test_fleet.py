"""Which workers live, and what a submission learns from that."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import InvalidSpec
from orchestrator.fleet import Fleet, WorkerInfo, check_against_fleet, serves
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings
from orchestrator.spec import build_spec
from tests.integration.ledger_world import LEASE_MS, P, World

ONE = WorkerInfo("one:1", "one", ("data", "express"), ("prod",), "1.0", 0)
TWO = WorkerInfo("two:1", "two", ("control",), ())


@pytest.fixture
def fleet(ledger: Ledger) -> Fleet:
    return Fleet(ledger)


def test_a_worker_is_seen_as_it_describes_itself(fleet: Fleet) -> None:
    fleet.beat(ONE)
    fleet.beat(TWO)

    workers = fleet.workers()

    assert sorted(workers, key=lambda each: each.process) == [ONE, TWO]
    assert all(0 <= each.seen_seconds_ago < 5 for each in workers)
    assert fleet.hosts() == {"one", "two"}


def test_a_worker_unheard_of_for_two_leases_is_gone_but_its_host_is_known(fleet: Fleet, world: World) -> None:
    fleet.beat(ONE)
    world.pass_time(LEASE_MS + 1_000)
    assert [each.process for each in fleet.workers()] == ["one:1"]
    assert fleet.workers()[0].seen_seconds_ago >= 11

    world.pass_time(LEASE_MS)

    assert fleet.workers() == []
    assert fleet.hosts() == {"one"}


def test_a_worker_that_left_is_gone_at_once(fleet: Fleet) -> None:
    fleet.beat(ONE)

    fleet.leave("one:1")

    assert fleet.workers() == []


def test_heartbeats_of_the_long_dead_are_dropped(fleet: Fleet, world: World) -> None:
    fleet.beat(ONE)
    world.pass_time(2 * 3_600_000)
    fleet.beat(TWO)

    fleet.forget_dead()

    assert world.client.zrange(f"{P}procs", 0, -1) == [b"two:1"]
    assert world.client.hkeys("hl:workers") == [b"two:1"]


def test_a_worker_of_another_version_is_read_as_far_as_it_is_understood(fleet: Fleet, world: World) -> None:
    fleet.beat(ONE)
    text = world.client.hget("hl:workers", "one:1").decode()
    world.client.hset("hl:workers", "one:1", text.replace("{", '{"warp": 9, ', 1))

    assert fleet.workers() == [ONE]


def test_every_shard_has_the_heartbeats(world: World, settings: Settings) -> None:
    sharded = Fleet(Ledger(world.ledger.redis, settings.model_copy(update={"shards": 3})))

    sharded.beat(ONE)

    assert [world.client.zcard(f"hl:{{s{shard}}}:procs") for shard in range(3)] == [1, 1, 1]


# Checked at submission


def check(settings: Settings, workers: list[WorkerInfo], hosts: set[str], **values: Any) -> None:
    ends = {"source": "https://h/a", "destination": "/data/b", **values}
    check_against_fleet(*build_spec(settings, **ends), workers, hosts, settings)


@pytest.mark.parametrize(
    ("field", "values", "allowed"),
    [
        ("source_profile", {"source_profile": "test"}, "a profile some worker has: prod"),
        ("destination_profile", {"destination_profile": "test"}, "a profile some worker has: prod"),
        ("pool", {"pool": "gpu"}, "a pool some worker serves: control, data, express"),
        ("destination host", {"destination": "file://three/a"}, "a host that has a worker: one, two"),
    ],
)
def test_what_no_worker_offers_is_refused_with_what_they_do(
    settings: Settings, field: str, values: dict[str, str], allowed: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check(settings, [ONE, TWO], {"one", "two"}, **values)

    assert (caught.value.field, caught.value.allowed) == (field, allowed)


def test_what_some_worker_offers_is_taken(settings: Settings) -> None:
    check(settings, [ONE, TWO], {"one", "two"}, source_profile="prod", pool="data", destination="file://two/a")


def test_with_no_worker_alive_nothing_is_known_and_nothing_refused(settings: Settings) -> None:
    check(settings, [], set(), source_profile="test", pool="gpu", destination="file://three/a")


def test_the_submitters_own_host_is_known_before_its_worker_starts(settings: Settings) -> None:
    check(settings, [ONE], {"one"}, destination="/data/b")


def test_a_worker_serves_its_pools_and_its_hosts_files() -> None:
    assert serves(ONE, "haulage.data")
    assert serves(ONE, "haulage.host.one")
    assert not serves(ONE, "haulage.control")
    assert not serves(ONE, "haulage.host.two")
    assert serves(TWO, "haulage.host.two.control")
