"""What happens when a user, a worker or Redis acts in the one moment nobody likes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator.client import TransferClient
from orchestrator.dispatch import Dispatcher, make_app
from orchestrator.errors import LedgerUnavailable
from orchestrator.events import read_events
from orchestrator.fleet import Fleet, WorkerInfo
from orchestrator.ledger import Ledger
from orchestrator.records import Lease, Record
from orchestrator.settings import Settings
from orchestrator.states import State
from providers.base import UploadId, UploadPlan
from tests.integration.ledger_time import let_pass
from tests.integration.ledger_world import LEASE_MS, World
from workers.abort import run_abort
from workers.bootstrap import Deps, build
from workers.endpoints import EndpointCache, Endpoints
from workers.prepare import run_prepare
from workers.sweeper import Sweeper

WEEK_MS = 7 * 86400 * 1000


class _Meanwhile:
    """A destination at which something happens just after an upload was created there."""

    def __init__(self, inner: Any, act: Callable[[], object]) -> None:
        self._inner = inner
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_upload(self, plan: UploadPlan) -> UploadId:
        upload: UploadId = self._inner.create_upload(plan)
        self._act()
        return upload


@dataclass(frozen=True)
class _MeanwhileCache:
    """Endpoints of a worker that is slow at creating uploads."""

    inner: EndpointCache
    act: Callable[[], object]

    def open(self, record: Record) -> Endpoints:
        ends = self.inner.open(record)
        slow: Any = _Meanwhile(ends.destination, self.act)
        return replace(ends, destination=slow)


@pytest.fixture
def user(client: redis.Redis, settings: Settings) -> Iterator[TransferClient]:
    with TransferClient(settings) as made:
        yield made


@pytest.fixture
def worker(client: redis.Redis, settings: Settings) -> Iterator[Deps]:
    made = build(settings)
    yield made
    made.ledger.redis.close()


def _prepare(worker: Deps, transfer_id: str, meanwhile: Callable[[], object]) -> None:
    cache: Any = _MeanwhileCache(worker.endpoints, meanwhile)
    epoch = worker.ledger.record(transfer_id).number("epoch")
    run_prepare(replace(worker, endpoints=cache), transfer_id, epoch)


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_an_upload_that_was_created_too_late_is_dropped(
    user: TransferClient, worker: Deps, tmp_path: Path, action: str
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    (tmp_path / "to").mkdir()
    transfer_id = user.submit(str(tmp_path / "source"), str(tmp_path / "to" / "file"))

    _prepare(worker, transfer_id, lambda: getattr(user, action)(transfer_id))
    if action == "cancel":
        assert run_abort(worker, transfer_id) == "cleaned up", "it need not wait for the lease of who opened it"

    assert user.get(transfer_id).state is (State.CANCELLED if action == "cancel" else State.PAUSED)
    assert list((tmp_path / "to").iterdir()) == []
    assert worker.ledger.sessions() == {}


class _Killed(BaseException):
    """Stands for a process that dies: nothing after it is done, and no lease is given back."""


def _die() -> None:
    raise _Killed


@pytest.mark.parametrize("when", ["cancelled, then it dies", "it dies, then cancelled", "it dies, paused, cancelled"])
@pytest.mark.parametrize("to_memory", [False, True], ids=["file", "memory"])
def test_an_upload_that_nobody_could_name_any_more_is_dropped_by_the_cancel(
    user: TransferClient, worker: Deps, client: redis.Redis, tmp_path: Path, when: str, to_memory: bool
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    (tmp_path / "to").mkdir()
    transfer_id = user.submit(str(tmp_path / "source"), "mem:to" if to_memory else str(tmp_path / "to" / "file"))

    def left() -> int:
        return len(client.keys("hl:{mem}:*")) if to_memory else len(list((tmp_path / "to").iterdir()))

    def cancel_and_die() -> None:
        user.cancel(transfer_id)
        _die()

    with pytest.raises(_Killed):
        _prepare(worker, transfer_id, cancel_and_die if when.startswith("cancelled") else _die)
    assert left() == 1
    if "paused" in when:
        user.pause(transfer_id)
    if not when.startswith("cancelled"):
        user.cancel(transfer_id)
        if "paused" not in when:
            assert run_abort(worker, transfer_id) == "nothing to do (wait)", "who opened it may still name it"
    let_pass(client, LEASE_MS + 1)

    assert run_abort(worker, transfer_id) == "cleaned up"

    assert left() == 0
    assert user.get(transfer_id).state is State.CANCELLED
    assert [each.kind for each in read_events(worker.ledger, transfer_id)][-1] == "cancelled"
    assert client.hlen("hl:{s0}:dest") == 0


def test_a_cancel_just_before_the_intent_opens_no_upload(
    user: TransferClient, worker: Deps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    (tmp_path / "to").mkdir()
    transfer_id = user.submit(str(tmp_path / "source"), str(tmp_path / "to" / "file"))
    note = Ledger.note

    def note_too_late(ledger: Ledger, lease: Lease, fields: Any, **more: Any) -> bool:
        if "intent_at" in fields:
            user.cancel(transfer_id)
        return note(ledger, lease, fields, **more)

    monkeypatch.setattr(Ledger, "note", note_too_late)
    _prepare(worker, transfer_id, _die)

    assert list((tmp_path / "to").iterdir()) == []
    assert user.get(transfer_id).state is State.CANCELLED


def test_an_upload_is_left_to_the_preparation_that_may_have_adopted_it(
    user: TransferClient, worker: Deps, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    (tmp_path / "to").mkdir()
    transfer_id = user.submit(str(tmp_path / "source"), str(tmp_path / "to" / "file"))

    def restart() -> None:
        user.pause(transfer_id)
        user.resume(transfer_id)

    _prepare(worker, transfer_id, restart)

    assert user.get(transfer_id).state is State.PREPARING
    assert len(list((tmp_path / "to").iterdir())) == 1


def test_what_is_written_is_accepted_even_if_redis_goes_away_right_after(
    user: TransferClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_ledger: Ledger) -> list[Any]:
        raise LedgerUnavailable("Redis did not answer")

    monkeypatch.setattr(Ledger, "admit", away)

    transfer_id = user.submit("/there/a", "/there/b")
    assert user.get(transfer_id).state is State.QUEUED
    assert user.pause(transfer_id) is State.PAUSED
    assert user.resume(transfer_id) is State.QUEUED
    assert user.cancel(transfer_id) is State.CANCELLED


def test_hosts_that_are_gone_for_a_week_are_forgotten(client: redis.Redis, ledger: Ledger) -> None:
    fleet = Fleet(ledger)
    fleet.beat(WorkerInfo("pod-1:1:a", "pod-1", ("data",), ()))
    fleet.beat(WorkerInfo("pod-2:1:a", "pod-2", ("data",), ()))
    client.zadd("hl:hosts", {"pod-1": time.time() * 1000 - WEEK_MS - 1000})

    fleet.forget_dead()

    assert client.zrange("hl:hosts", 0, -1) == [b"pod-2"]


def test_a_worker_whose_clock_is_far_ahead_forgets_nobody_who_lives(
    client: redis.Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(ledger)
    fleet.beat(WorkerInfo("a:1:x", "a", ("data",), ()))
    ahead = time.time() + 30 * 86400
    monkeypatch.setattr(time, "time", lambda: ahead)

    fleet.forget_dead()

    assert client.zcard("hl:{s0}:procs") == client.hlen("hl:workers") == client.zcard("hl:hosts") == 1


@pytest.mark.parametrize("served", [False, True])
def test_the_queue_of_a_machine_that_is_off_does_not_grow_for_ever(
    world: World, settings: Settings, served: bool
) -> None:
    queue = "haulage.host.laptop.control"
    for number in range(12):
        world.submit(f"d{number}", control_queue=queue)
    world.ledger.admit()
    app = make_app(settings)
    sweeper = Sweeper(world.ledger, Dispatcher(app), "sweeper")

    for _ in range(12):
        world.pass_time(2 * LEASE_MS)
        Fleet(world.ledger).beat(WorkerInfo("a", "laptop" if served else "here", ("control",), ()))
        sweeper.sweep_once()

    count = int(world.client.llen(queue))
    assert count == 144 if served else 100 <= count < 112
    app.close()
