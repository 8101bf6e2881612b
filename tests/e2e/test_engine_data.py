"""The data of the one-machine engine: they outlive its binary, a torn end and odd folders; a bad start says why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from haulage.engine import stop
from orchestrator.client import TransferClient
from orchestrator.errors import RuntimeFailed
from orchestrator.states import State
from tests.e2e.engine_world import EngineWorld, engine_world
from tests.e2e.fleet import PATIENCE_SECONDS, eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    with engine_world(tmp_path / "state") as world:
        yield world


def some_data(world: EngineWorld, tmp_path: Path) -> str:
    """A transfer that is known to an engine that has stopped since."""
    (tmp_path / "a.bin").write_bytes(b"abc")
    with world.client() as client:
        transfer_id = client.submit_paused(str(tmp_path / "a.bin"), str(tmp_path / "b.bin"))
    assert stop(world.settings)
    return transfer_id


def goes_on(client: TransferClient, transfer_id: str) -> None:
    client.resume(transfer_id)
    assert client.wait(transfer_id, timeout_seconds=PATIENCE_SECONDS).state is State.COMPLETED


def marker(world: EngineWorld) -> Path:
    return world.folder / "data" / "haulage.json"


def rewrite(path: Path, **values: Any) -> dict[str, Any]:
    new: dict[str, Any] = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps(new))
    return new


def test_a_newer_binary_takes_over_the_data_of_an_older_one(world: EngineWorld, tmp_path: Path) -> None:
    transfer_id = some_data(world, tmp_path)
    now = json.loads(marker(world).read_text())
    rewrite(marker(world), kind="redis", version="7.0.15", binary="/gone/redis-server")

    with world.client() as client:
        assert json.loads(marker(world).read_text()) == now
        goes_on(client, transfer_id)


def test_data_of_a_newer_binary_are_left_alone_and_both_versions_are_named(world: EngineWorld, tmp_path: Path) -> None:
    transfer_id = some_data(world, tmp_path)
    now = json.loads(marker(world).read_text())
    newer = rewrite(marker(world), version="99.0.1")
    before = {path: path.read_bytes() for path in (world.folder / "data").rglob("*") if path.is_file()}

    with pytest.raises(RuntimeFailed, match=r"written by valkey 99\.0\.1.*newest engine here is valkey \d") as refused:
        world.attach()

    assert refused.value.number == 101
    assert str(world.folder / "engine.log") in str(refused.value)
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads(marker(world).read_text()) == newer
    world.wait_gone()
    rewrite(marker(world), version=now["version"])
    with world.client() as client:
        goes_on(client, transfer_id)


def test_an_append_only_file_with_a_torn_end_is_read_up_to_there(world: EngineWorld, tmp_path: Path) -> None:
    transfer_id = some_data(world, tmp_path)
    (newest,) = (world.folder / "data" / "appendonlydir").glob("*.incr.aof")
    with newest.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")

    with world.client() as client:
        goes_on(client, transfer_id)


def test_damaged_data_are_said_to_be_so_at_once(world: EngineWorld, tmp_path: Path) -> None:
    some_data(world, tmp_path)
    (base,) = (world.folder / "data" / "appendonlydir").glob("*.base.rdb")
    base.write_bytes(b"no database at all")

    with pytest.raises(RuntimeFailed, match=r"valkey \S+ did not start: .*(signature|format|RDB).*engine\.log"):
        world.attach()

    assert b"no database at all" in base.read_bytes()
    world.wait_gone()


def test_a_machine_that_changes_its_name_still_knows_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine_world(tmp_path / "state") as world:
        monkeypatch.setenv("HAULAGE_HOST", "at-home")
        transfer_id = some_data(world, tmp_path)
        monkeypatch.setenv("HAULAGE_HOST", "in-the-office")

        with world.client() as client:
            assert client.settings.host == "at-home"
            goes_on(client, transfer_id)


def test_a_folder_with_a_long_or_odd_path_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    for name in ("x" * 120, "mit Leerzeichen und ü"):
        with engine_world(tmp_path / name) as world, world.attach() as engine:
            with TransferClient(engine.settings) as client:
                first = client.submit(str(tmp_path / "a.bin"), str(tmp_path / f"{name}.bin"))
                assert client.wait(first, timeout_seconds=PATIENCE_SECONDS).state is State.COMPLETED
            sockets = Path(engine.settings.redis.removeprefix("unix://")).parent
            assert sockets != engine.folder
            assert sockets.stat().st_mode & 0o777 == 0o700
            assert json.loads((engine.folder / "engine.lock").read_text())["sockets"] == str(sockets)
            assert stop(world.settings)
            assert list(sockets.iterdir()) == []
            sockets.rmdir()


def test_a_folder_that_is_removed_sends_its_engine_away(world: EngineWorld, tmp_path: Path) -> None:
    with world.attach() as engine:
        old = engine.pid
        world.folder.rename(tmp_path / "away")

        with world.attach() as other, TransferClient(other.settings) as client:
            assert other.pid != old
            eventually(lambda: not psutil.pid_exists(old), "the old engine has left")
            assert client.list() == []  # and has left the sockets of the new one alone


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_others_can_open_is_refused_before_anything_starts(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with engine_world(folder) as world:
        with pytest.raises(RuntimeFailed, match="open to others"):
            world.attach()
        assert world.processes() == []
        assert os.listdir(folder) == []


def test_without_what_moves_bytes_it_says_what_to_install(world: EngineWorld) -> None:
    code = (
        "import sys; sys.modules['awscrt'] = None\n"
        "from haulage.engine import attach; from orchestrator.settings import load_settings\n"
        "try: attach(load_settings())\n"
        "except Exception as exc: print(exc.number, exc)"
    )
    said, _ = world.client_process(code).communicate()

    assert said.startswith("101 ")
    assert "(awscrt): pip install 'haulage[worker,engine]'" in said


def test_it_serves_every_pool_whatever_a_fleets_worker_would(tmp_path: Path) -> None:
    with engine_world(tmp_path / "state", pools="data,mine") as world:
        transfer_id = some_data(world, tmp_path)
        with world.client() as client:
            goes_on(client, transfer_id)
            assert {each for worker in client.workers() for each in worker.pools} >= {"control", "express", "mine"}
