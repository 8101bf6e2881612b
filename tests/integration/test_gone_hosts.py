"""What a machine that will never come back leaves in the broker: pods have a new name each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from orchestrator.dispatch import PREPARE, Dispatcher, declared, make_app
from orchestrator.fleet import Fleet, WorkerInfo
from orchestrator.ledger import Ledger
from orchestrator.queues import queues_of_host
from orchestrator.settings import Settings
from workers.sweeper import Sweeper

LONG_AGO = 1


@pytest.fixture
def sweeper(client: redis.Redis, ledger: Ledger, settings: Settings) -> Iterator[Sweeper]:
    """After hosts have declared their queues and died: all of them long ago, but ``alive``."""
    app = make_app(settings)
    with app.connection_for_write() as connection, connection.channel() as channel:
        for host in ("alive", "gone", "owing"):
            Fleet(ledger).beat(WorkerInfo(f"{host}:1:a", host, ("data",), ()))
            for queue in queues_of_host(host):
                declared(queue)(channel).declare()
    client.zadd("hl:hosts", {"gone": LONG_AGO, "owing": LONG_AGO})
    app.send_task(PREPARE, args=("s0-1", 1), queue="haulage.host.owing.control", ignore_result=True)
    yield Sweeper(ledger, Dispatcher(app), "sweeper")
    app.close()


def hosts_bound(client: redis.Redis) -> set[str]:
    keys = client.scan_iter("_kombu.binding*haulage.host.*")
    return {key.decode().partition("haulage.host.")[2].partition(".")[0] for key in keys}


def test_bindings_go_with_the_host_unless_messages_wait_for_it(client: redis.Redis, sweeper: Sweeper) -> None:
    before = hosts_bound(client)

    sweeper.tidy()

    assert before == {"alive", "gone", "owing"}
    assert hosts_bound(client) == {"alive", "owing"}
    assert set(client.zrange("hl:hosts", 0, -1)) == {b"alive", b"owing"}
    assert client.llen("haulage.host.owing.control") == 1


def test_messages_find_a_host_that_came_back(
    client: redis.Redis, ledger: Ledger, sweeper: Sweeper, settings: Settings
) -> None:
    sweeper.tidy()

    app = make_app(settings)
    Dispatcher(app).prepare("s0-2", 1, "haulage.host.gone.control")
    app.close()

    assert client.llen("haulage.host.gone.control") == 1
