"""The one-machine engine: it starts when it is needed, is shared, and leaves when nobody needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import certifi
import psutil
import pytest

from haulage.client import TransferClient as FaceClient
from haulage.engine import status, stop, wants_engine
from haulage.engine.folders import place_of
from haulage.engine.wire import Lines, Message, connect_to, encode, read_message
from orchestrator.client import TransferClient
from orchestrator.errors import RuntimeFailed
from orchestrator.settings import load_settings
from orchestrator.spec import RetryBudget
from orchestrator.states import State
from tests.e2e.engine_world import EngineWorld, engine_world
from tests.e2e.fleet import CHECKOUT, PATIENCE_SECONDS, eventually
from tests.servers.range_server import Pattern, RangeServer

MIB = 1 << 20
SIZE = 8 * MIB
SLOW = 300_000
"""Bytes a second and connection: a transfer of SIZE takes long enough to be seen at work."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    with engine_world(tmp_path / "state") as world:
        yield world


@pytest.fixture
def web() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


def finished(client: TransferClient, transfer_id: str) -> State:
    return client.wait(transfer_id, timeout_seconds=PATIENCE_SECONDS).state


def moving(client: TransferClient, transfer_id: str) -> None:
    eventually(lambda: client.get(transfer_id).progress.received_bytes > 0, "bytes that move")


def hello(world: EngineWorld, **said: str) -> Message:
    """What the engine answers to a client of another version, or with other settings."""
    sock = connect_to(place_of(world.folder), timeout_seconds=PATIENCE_SECONDS)
    assert sock is not None
    with sock:
        sock.sendall(encode({"want": "lifeline", **said}))
        answer = read_message(sock, Lines())
    assert answer is not None
    return answer


def test_it_starts_from_nothing_and_moves_files_and_urls(world: EngineWorld, web: RangeServer, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    (tmp_path / "a.bin").write_bytes(data)
    url = web.serve("/b.bin", Pattern(SIZE))

    with world.client() as client:
        first = client.submit(str(tmp_path / "a.bin"), str(tmp_path / "copy.bin"))
        second = client.submit(url, str(tmp_path / "b.bin"), part_size=MIB)

        assert finished(client, first) == finished(client, second) == State.COMPLETED
        assert (tmp_path / "copy.bin").read_bytes() == data
        assert (tmp_path / "b.bin").read_bytes() == Pattern(SIZE).read(0, SIZE)
        (tmp_path / "mine").touch()
        assert (tmp_path / "b.bin").stat().st_mode == (tmp_path / "mine").stat().st_mode, "the user's own umask"


def test_it_is_private_and_listens_on_no_port(world: EngineWorld) -> None:
    with world.attach():
        running = world.processes()

        assert {each.pid for each in running} >= {world.status().pid, world.status().valkey_pid}
        listening = [port for each in running for port in each.net_connections("inet") if port.status == "LISTEN"]
        assert listening == []
        assert [oct(each.stat().st_mode & 0o077) for each in world.folder.rglob("*") if each.is_file()] == [
            "0o0"
        ] * sum(each.is_file() for each in world.folder.rglob("*"))
        assert world.folder.stat().st_mode & 0o777 == 0o700
        assert all(each.terminal() is None for each in running)


def test_clients_that_start_at_the_same_moment_share_one_engine(world: EngineWorld) -> None:
    code = (
        "import sys; from haulage.engine import attach; from orchestrator.settings import load_settings\n"
        "with attach(load_settings(), deadline_seconds=60) as engine:\n"
        "    print(engine.pid, flush=True); sys.stdin.read()"
    )
    clients = [world.client_process(code) for _ in range(3)]

    pids = {client.stdout.readline().strip() for client in clients if client.stdout}
    engines = [each for each in world.processes() if each.ppid() == 1 or "--detach" in each.cmdline()]

    assert pids == {str(world.status().pid)}
    assert world.status().lifelines == 3
    assert {each.pid for each in engines} == {world.status().pid, *world.status().worker_pids}
    for client in clients:
        client.communicate("")
        assert client.returncode == 0


def test_a_second_client_finds_the_engine_that_runs(world: EngineWorld) -> None:
    with world.attach() as first, world.attach() as second:
        assert first.pid == second.pid
        assert first.settings.redis == second.settings.redis
        assert not wants_engine(first.settings)


def test_it_leaves_when_the_last_client_has_gone_and_resumes_what_it_paused(tmp_path: Path, web: RangeServer) -> None:
    web.throttle = SLOW
    url = web.serve("/b.bin", Pattern(SIZE))
    with engine_world(tmp_path / "state", engine_linger_seconds=0.2) as world:
        with world.client() as client:
            transfer_id = client.submit(url, str(tmp_path / "b.bin"), part_size=MIB, parts_in_flight=2)
            eventually(lambda: client.get(transfer_id).progress.durable_bytes > 0, "a part is stored")

        world.wait_gone()
        assert status(world.settings) is None
        asked = len(web.requests)
        web.throttle = None

        with world.client() as client:
            assert client.get(transfer_id).state is State.PAUSED
            assert client.get(transfer_id).progress.durable_bytes > 0
            assert len(web.requests) == asked
            client.resume(transfer_id)
            assert finished(client, transfer_id) is State.COMPLETED
        assert (tmp_path / "b.bin").read_bytes() == Pattern(SIZE).read(0, SIZE)


def test_a_transfer_that_is_kept_holds_it_until_it_has_ended(tmp_path: Path, web: RangeServer) -> None:
    web.throttle = SLOW
    url = web.serve("/b.bin", Pattern(SIZE))
    with engine_world(tmp_path / "state", engine_linger_seconds=0.2) as world:
        with world.attach() as engine, TransferClient(engine.settings) as client:
            transfer_id = client.submit(url, str(tmp_path / "b.bin"), part_size=MIB, parts_in_flight=2)
            moving(client, transfer_id)
            engine.keep(transfer_id)
            pid = engine.pid
        with TransferClient(engine.settings) as without_lifeline:
            start = without_lifeline.get(transfer_id).progress.durable_bytes
            eventually(lambda: without_lifeline.get(transfer_id).progress.durable_bytes > start + MIB, "it goes on")
            assert world.status().pid == pid
            assert world.status().lifelines == 0
            web.throttle = None
            eventually((tmp_path / "b.bin").exists, "the file")

        world.wait_gone()
        assert (tmp_path / "b.bin").read_bytes() == Pattern(SIZE).read(0, SIZE)


def test_stopped_by_a_person_it_goes_on_by_itself_only_with_what_is_kept(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    web.throttle = SLOW
    kept_url, other_url = web.serve("/kept.bin", Pattern(SIZE)), web.serve("/other.bin", Pattern(SIZE))
    with world.attach() as engine, TransferClient(engine.settings) as client:
        kept = client.submit(kept_url, str(tmp_path / "kept.bin"), part_size=MIB)
        other = client.submit(other_url, str(tmp_path / "other.bin"), part_size=MIB)
        moving(client, kept)
        moving(client, other)
        engine.keep(kept)

        assert stop(world.settings)

        assert world.processes() == []  # nor does the lifeline that was cut start it again
        assert not stop(world.settings)
    web.throttle = None
    with world.client() as client:
        assert finished(client, kept) is State.COMPLETED
        assert client.get(other).state is State.PAUSED


def test_an_engine_of_another_version_is_replaced_unless_somebody_uses_it(world: EngineWorld) -> None:
    with world.attach() as engine:
        before = engine.pid
        assert hello(world, version="0.0.1")["ready"]
    eventually(lambda: world.status().lifelines == 0, "nobody is attached")

    assert hello(world, version="0.0.1") == {"restarting": True}
    with world.attach() as engine:
        assert engine.pid != before


def test_other_credentials_get_another_engine_unless_something_moves(
    world: EngineWorld, web: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.throttle = SLOW
    url = web.serve("/b.bin", Pattern(SIZE))
    with world.attach() as engine, TransferClient(engine.settings) as client:
        before = engine.pid
        transfer_id = client.submit(url, str(tmp_path / "b.bin"), part_size=MIB)
        moving(client, transfer_id)
    eventually(lambda: world.status().lifelines == 0, "nobody is attached")
    monkeypatch.setenv("HAULAGE_PROFILE_NEW__ACCESS_KEY", "k")

    with world.attach() as engine, TransferClient(engine.settings) as client:
        assert (engine.pid, engine.older) == (before, ["HAULAGE_PROFILE_NEW__ACCESS_KEY"])
        client.cancel(transfer_id)
        eventually(lambda: client.get(transfer_id).state is State.CANCELLED, "nothing moves")
    eventually(lambda: world.status().lifelines == 0, "nobody is attached")

    with world.attach() as engine, TransferClient(engine.settings) as client:
        assert engine.pid != before
        assert {each.profiles for each in client.workers() if each.process.split(":")[1] in map(str, pids(world))} == {
            ("new",)
        }


def test_what_waits_for_a_setting_goes_on_once_a_client_comes_that_has_it(
    world: EngineWorld, web: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "HAULAGE_PROFILE_MINE__CA_FILE"
    monkeypatch.setenv(name, "/nowhere/ca.pem")
    url = web.serve("/b.bin", Pattern(MIB))
    with world.attach() as engine, TransferClient(engine.settings) as client:
        before = engine.pid
        transfer_id = client.submit(
            url, str(tmp_path / "b.bin"), source_profile="mine", retry=RetryBudget(wait_seconds=1)
        )
        eventually(lambda: client.get(transfer_id).state is State.WAITING, "no such certificate")
    eventually(lambda: world.status().lifelines == 0, "nobody is attached")

    monkeypatch.delenv(name)
    with world.attach() as engine:  # another shell, which only looks
        assert (engine.pid, engine.older) == (before, [name])
    eventually(lambda: world.status().lifelines == 0, "nobody is attached")

    monkeypatch.setenv(name, certifi.where())
    with world.attach() as engine, TransferClient(engine.settings) as client:
        assert engine.pid != before
        assert engine.older == []
        assert finished(client, transfer_id) is State.COMPLETED


def pids(world: EngineWorld) -> list[int]:
    return world.status().worker_pids


def test_it_runs_in_the_foreground_and_without_forks_too(world: EngineWorld, web: RangeServer, tmp_path: Path) -> None:
    """As under a service manager, and as on macOS: workers are fresh processes there, and all end with the engine."""
    code = (
        "import sys; from haulage.engine import forks; forks.can_fork = lambda: False\n"
        "from haulage.engine.__main__ import main; sys.exit(main(['--folder', sys.argv[1], '--umask', '027']))"
    )
    url = web.serve("/b.bin", Pattern(SIZE))
    engine = world.client_process(code, str(world.folder))
    try:
        eventually(lambda: status(world.settings) is not None, "the engine listens")
        with world.client() as client:
            workers = [psutil.Process(each) for each in pids(world)]
            assert world.status().pid == engine.pid
            assert all("workers.process" in each.cmdline() for each in workers)
            assert finished(client, client.submit(url, str(tmp_path / "b.bin"))) is State.COMPLETED
            assert (tmp_path / "b.bin").stat().st_mode & 0o777 == 0o640
        engine.terminate()
        assert engine.wait(PATIENCE_SECONDS) == 0
    finally:
        engine.kill()
        engine.communicate()

    assert world.processes() == []
    assert not any(each.is_running() for each in workers)


def test_the_command_line_shows_and_stops_it(world: EngineWorld) -> None:
    def haulage(*words: str) -> tuple[int, Message]:
        command = [sys.executable, "-m", "haulage", "engine", *words, "--json"]
        ended = subprocess.run(
            command, env=world.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        return ended.returncode, json.loads(ended.stdout)

    assert haulage("status") == (1, {"running": False})
    with world.attach() as engine:
        code, shown = haulage("status")
        assert (code, shown["pid"], shown["lifelines"], shown["state"]) == (0, engine.pid, 1, "ready")
        assert Path(shown["log_file"]).is_file()

        assert haulage("stop") == (0, {"stopped": True})
    assert world.processes() == []
    assert haulage("stop") == (0, {"stopped": False})


def test_the_client_of_the_package_uses_it_when_no_redis_is_named(world: EngineWorld, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * MIB)
    assert wants_engine(world.settings)
    assert not wants_engine(load_settings(redis_url="redis://127.0.0.1:1"))

    with FaceClient.embedded(**world.values) as client:
        transfer_id = client.submit(str(tmp_path / "a.bin"), str(tmp_path / "b.bin"))
        assert finished(client, transfer_id) is State.COMPLETED

    assert (tmp_path / "b.bin").read_bytes() == b"x" * MIB
    assert world.status().pid  # others may come; it lingers


def test_what_closes_the_face_pauses_its_own_transfers_and_keeps_those_it_was_told_to(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    web.throttle = SLOW
    first, second = web.serve("/1.bin", Pattern(SIZE)), web.serve("/2.bin", Pattern(SIZE))
    with FaceClient.embedded(**world.values) as client:
        paused = client.submit(first, str(tmp_path / "1.bin"), part_size=MIB)
        kept = client.submit(second, str(tmp_path / "2.bin"), part_size=MIB)
        moving(client, paused)
        client.keep(kept)

    web.throttle = None
    with world.client() as client:
        assert client.get(paused).state is State.PAUSED
        assert finished(client, kept) is State.COMPLETED


def test_no_test_can_reach_the_engine_of_whoever_runs_it() -> None:
    with pytest.raises(RuntimeFailed, match="a-test-names-the-folder-of-its-engine cannot be used"):
        FaceClient.embedded()
