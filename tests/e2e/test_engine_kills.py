"""SIGKILL for the engine, its Valkey, its workers, its clients, or all of them: it goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from haulage.engine.valkey import guard
from orchestrator.client import TransferClient
from orchestrator.states import State
from tests.e2e.engine_world import EngineWorld, engine_world
from tests.e2e.fleet import PATIENCE_SECONDS, eventually
from tests.servers.range_server import Pattern, RangeServer

MIB = 1 << 20
SIZE = 12 * MIB
IN_FLIGHT = 3
CLIENT = """
import sys
from haulage.engine import attach
from orchestrator.client import TransferClient
from orchestrator.settings import load_settings
with attach(load_settings(), deadline_seconds=60) as engine, TransferClient(engine.settings) as client:
    print(client.submit(sys.argv[1], sys.argv[2], part_size=1 << 20, parts_in_flight=3), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    with engine_world(tmp_path / "state") as world:
        yield world


@pytest.fixture
def web() -> Iterator[RangeServer]:
    """A few parts come at once, and the rest by the byte until ``let_go``."""
    with RangeServer() as server:
        server.serve("/a.bin", Pattern(SIZE))
        server.fault("/a.bin", method="GET", after=4, drip_seconds=0.02)
        yield server


def let_go(web: RangeServer) -> None:
    (held,) = web.faults
    held.let_go()


def url(web: RangeServer) -> str:
    return f"{web.base}/a.bin"


def stored_and_moving(client: TransferClient, transfer_id: str) -> None:
    def seen() -> bool:
        progress = client.get(transfer_id).progress
        return 0 < progress.durable_bytes < progress.received_bytes

    eventually(seen, "parts stored and parts in flight")


def asked_bytes(web: RangeServer) -> int:
    """Of all ranges the workers asked for, probes of a single byte left out."""
    spans = [each.range.removeprefix("bytes=").split("-") for each in web.requests if each.range]
    return sum(int(stop) - int(start) + 1 for start, stop in spans if stop != start)


def assert_arrived(client: TransferClient, transfer_id: str, file: Path, web: RangeServer, *, kills: int) -> None:
    assert client.wait(transfer_id, timeout_seconds=PATIENCE_SECONDS).state is State.COMPLETED
    assert file.read_bytes() == Pattern(SIZE).read(0, SIZE)
    assert asked_bytes(web) - SIZE <= kills * IN_FLIGHT * MIB
    assert [each.name for each in file.parent.iterdir() if each.name.endswith(".haulage")] == []


def test_everything_killed_at_once_costs_what_was_in_flight(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    file = tmp_path / "a.bin"
    person = world.client_process(CLIENT, url(web), str(file))
    assert person.stdout
    transfer_id = person.stdout.readline().strip()
    with world.client() as client:
        stored_and_moving(client, transfer_id)
    before = world.status()
    assert not file.exists()

    person.kill()
    world.kill_all()
    person.communicate()
    assert world.processes() == []
    let_go(web)

    with world.client() as client:
        assert world.status().pid != before.pid
        assert_arrived(client, transfer_id, file, web, kills=1)


def test_a_killed_valkey_is_started_again_under_the_same_engine(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    with world.client() as client:
        transfer_id = client.submit(url(web), str(tmp_path / "a.bin"), part_size=MIB, parts_in_flight=IN_FLIGHT)
        stored_and_moving(client, transfer_id)
        before = world.status()
        assert before.valkey_pid

        os.kill(before.valkey_pid, signal.SIGKILL)
        let_go(web)

        assert_arrived(client, transfer_id, tmp_path / "a.bin", web, kills=1)
        after = world.status()
        assert (after.pid, after.worker_pids) == (before.pid, before.worker_pids)
        assert after.valkey_pid not in (None, before.valkey_pid)


def test_a_killed_worker_is_forked_again(world: EngineWorld, web: RangeServer, tmp_path: Path) -> None:
    with world.client() as client:
        transfer_id = client.submit(url(web), str(tmp_path / "a.bin"), part_size=MIB, parts_in_flight=IN_FLIGHT)
        stored_and_moving(client, transfer_id)
        before = world.status()

        for each in before.worker_pids:
            os.kill(each, signal.SIGKILL)
        let_go(web)

        assert_arrived(client, transfer_id, tmp_path / "a.bin", web, kills=1)
        after = world.status()
        assert after.pid == before.pid
        assert len(after.worker_pids) == len(before.worker_pids)
        assert not {*after.worker_pids} & {*before.worker_pids}


def test_a_killed_engine_leaves_no_orphan_and_comes_back_for_those_attached(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    with world.attach() as engine, TransferClient(engine.settings) as client:
        transfer_id = client.submit(url(web), str(tmp_path / "a.bin"), part_size=MIB, parts_in_flight=IN_FLIGHT)
        stored_and_moving(client, transfer_id)
        old = world.processes()
        assert len(old) == 5

        os.kill(engine.pid, signal.SIGKILL)
        let_go(web)

        _, alive = psutil.wait_procs(old, timeout=PATIENCE_SECONDS)
        assert alive == []
        eventually(lambda: engine.pid not in {each.pid for each in old}, "the lifeline leads to another engine")
        assert_arrived(client, transfer_id, tmp_path / "a.bin", web, kills=1)


def test_a_killed_engine_without_clients_stays_away_until_one_comes(world: EngineWorld) -> None:
    with world.attach() as engine:
        first = engine.pid
    os.kill(first, signal.SIGKILL)

    world.wait_gone()
    assert (world.folder / "engine.lock").read_bytes() != b""  # what it said last: nobody holds the lock

    with world.attach() as engine:
        assert engine.pid != first


def test_where_the_kernel_does_not_help_a_shell_kills_the_orphan() -> None:
    """On macOS a child outlives its parent; the end of a pipe that the parent held does not."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watching = guard(child.pid)
    assert watching.stdin
    assert child.poll() is None

    watching.stdin.close()

    assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    watching.wait(PATIENCE_SECONDS)
    child.communicate()


def test_a_client_killed_while_it_starts_the_engine_leaves_one_that_works(world: EngineWorld) -> None:
    starting = world.client_process(
        "from haulage.engine import attach\nfrom orchestrator.settings import load_settings\nattach(load_settings())"
    )
    eventually(lambda: bool(world.processes()), "the engine has begun")
    starting.kill()
    starting.communicate()

    with world.client() as client:
        assert client.list() == []
        assert world.status().lifelines == 1
