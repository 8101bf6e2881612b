"""Redis as the deployment files set it up: started by their own command, and used with no more than their rights."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from orchestrator.dispatch import make_app
from orchestrator.errors import TransferNotFound
from orchestrator.states import State
from tests.deploy.files import DEPLOY, documents, pods, services
from tests.doctor.ask import doctor
from tests.e2e.fleet import Fleet
from tests.servers.process import LOOPBACK, ServerProcess, free_port, wait_until
from tests.servers.valkey import Valkey, valkey_binary

PASSWORD = "p4ssword"
KIB = 1 << 10


def compose_script() -> str:
    return str(services()["redis"]["command"][2]).replace("$$", "$")


def kubernetes_script() -> str:
    (pod,) = [pod for name, pod in pods() if name.endswith("StatefulSet/redis")]
    return str(pod["containers"][0]["command"][2])


class AsDeployed(ServerProcess):
    """The command of a deployment file, with port and folders of the test."""

    def __init__(self, folder: Path, script: str) -> None:
        self.port = free_port()
        settings = folder / "redis.conf"
        text = (DEPLOY / "redis" / "redis.conf").read_text().replace("dir /data", f"dir {folder}")
        settings.write_text(f"{text}\nport {self.port}\nbind {LOOPBACK}\n")
        (folder / "valkey-server").symlink_to(valkey_binary())
        super().__init__(
            ["sh", "-euc", script.replace("/etc/haulage/redis.conf", str(settings))],
            log=folder / "log",
            ready=self._answers,
            env={**os.environ, "REDIS_PASSWORD": PASSWORD, "PATH": f"{folder}:{os.environ['PATH']}"},
        )

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@{LOOPBACK}:{self.port}/0"

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, retry=None) as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False


@pytest.mark.parametrize("script", [compose_script(), kubernetes_script()], ids=["compose", "kubernetes"])
def test_redis_starts_by_the_files_command_and_the_doctor_finds_nothing_to_mend(tmp_path: Path, script: str) -> None:
    with AsDeployed(tmp_path, script) as server:
        answer = doctor({"HAULAGE_REDIS_URL": server.url}, "--only", "redis")
        locked = doctor({"HAULAGE_REDIS_URL": f"redis://{LOOPBACK}:{server.port}/0"}, "--only", "redis")
        arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes() if Path("/proc").is_dir() else b""

    assert answer.bad() == set()
    assert locked.bad() == {"redis_reachable"}
    assert PASSWORD.encode() not in arguments


@pytest.fixture
def fenced(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose only way to Redis is the user of deploy/redis/users.acl."""
    rights = (DEPLOY / "redis" / "users.acl").read_text()
    assert "CHANGE-ME" in rights
    file = tmp_path / "users.acl"
    file.write_text(rights.replace("CHANGE-ME", PASSWORD) + "user watcher on nopass ~* &* +@all\n")
    with contextlib.ExitStack() as stack:
        fleet = Fleet(tmp_path)
        fleet.redis = Valkey(tmp_path / "redis", extra=("--aclfile", str(file)))
        fleet.env["HAULAGE_REDIS_URL"] = f"redis://haulage:{PASSWORD}@{LOOPBACK}:{fleet.redis.port}/0"
        yield stack.enter_context(fleet)


def test_a_fleet_works_with_exactly_the_rights_of_the_acl_file(fenced: Fleet, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    fenced.worker("fenced", threads=4)
    client = fenced.client

    parts = client.submit(str(tmp_path / "a"), str(tmp_path / "b"), part_size=64 * KIB, parts_in_flight=4)
    memory = client.submit(str(tmp_path / "a"), "mem:thing")
    paused = client.submit_paused(str(tmp_path / "a"), str(tmp_path / "c"))
    cancelled = client.submit_paused(str(tmp_path / "a"), str(tmp_path / "d"))
    client.resume(paused)
    client.cancel(cancelled)
    ended = [fenced.wait(each).state for each in (parts, memory, paused)]
    kinds = [each.kind for each in client.events(parts)]
    answer = doctor(fenced.env)
    app = make_app(fenced.settings)
    pings = app.control.ping(timeout=5, limit=1)
    heard = watched(app)
    app.close()

    assert ended == ["completed"] * 3
    assert kinds[-1] == "completed"
    assert heard[0].startswith("worker-")
    assert pings == [{"fenced@testhost": {"ok": "pong"}}]
    assert {name for name in answer.bad() if name.startswith(("redis", "pools", "queues", "fleet", "broker"))} == set()
    with redis.Redis(port=fenced.redis.port, username="watcher", password="any") as watcher:
        assert [refused(each) for each in watcher.acl_log() if not by_the_doctor(each)] == []


def test_a_right_that_a_worker_lacks_is_named_and_waited_for(fenced: Fleet, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with redis.Redis(port=fenced.redis.port, username="watcher", password="any") as watcher:
        watcher.execute_command("ACL", "SETUSER", "haulage", "resetkeys", "~hl:*", "~haulage.*", "~celery-task*")
        worker = fenced.worker("fenced", wait=False)
        wait_until(lambda: bool(worker.events("broker_refused")), "a word about the missing right")
        answer = doctor(fenced.env)
        watcher.execute_command("ACL", "SETUSER", "haulage", "~_kombu.binding*", "~*.haulage.pidbox*")
        moved = fenced.wait(fenced.client.submit(str(tmp_path / "a"), str(tmp_path / "b")))

    said = worker.events("broker_refused")
    assert said[0]["missing"] == ["~_kombu.binding*", "~*.haulage.pidbox*"]
    assert len(said) <= 2, "once for each try"
    assert "~_kombu.binding* ~*.haulage.pidbox*" in answer.checks["broker_rights"]["message"]
    assert moved.state is State.COMPLETED


def watched(app: Any) -> list[str]:
    """Kind of the first event that Celery's own receiver hears, which is Flower's."""
    heard: list[str] = []

    def note(event: dict[str, Any]) -> None:
        heard.append(event["type"])
        receiver.should_stop = True

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": note})
        receiver.capture(limit=None, timeout=20)
    return heard


def refused(entry: dict[str, Any]) -> str:
    return f"{entry['reason']} {entry['object']} ({entry['context']})"


def by_the_doctor(entry: dict[str, Any]) -> bool:
    """It asks for appendfsync and lives without."""
    return str(entry["object"]) == "config|get"


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "requirepass"),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("SCRIPT", "FLUSH"),
        ("ACL", "LIST"),
        ("GET", "of-another-application"),
        ("SET", "of-another-application", "1"),
        ("PUBLISH", "of-another-application", "1"),
    ],
    ids=" ".join,
)
def test_the_acl_user_may_nothing_else(fenced: Fleet, command: tuple[str, ...]) -> None:
    with redis.Redis.from_url(fenced.env["HAULAGE_REDIS_URL"]) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)


def test_keda_counts_keys_that_a_ledger_with_work_has(tmp_path: Path) -> None:
    (scaled,) = [each for each in documents(DEPLOY / "kubernetes" / "keda.yaml") if each["kind"] == "ScaledObject"]
    lists = {each["metadata"]["listName"] for each in scaled["spec"]["triggers"]}
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    with Fleet(tmp_path, shared_roots=tmp_path) as fleet:
        fleet.worker("control", pools="control")
        moving = fleet.client.submit(str(tmp_path / "a"), str(tmp_path / "b"), part_size=64 * KIB)
        fleet.wait_state(moving, State.RUNNING)
        server = fleet.redis.client()
        at_work = {key.decode(): server.scard(key) for key in server.scan_iter("hl:{s0}:slots:*")}
        fleet.worker("data", pools="data")
        fleet.wait(moving)
        left = server.keys("hl:{s0}:slots:*")

    assert lists == {"haulage.data", *(f"hl:{{s0}}:slots:{each}" for each in ("upload", "download", "copy"))}
    assert list(at_work.values()) == [1]
    assert at_work.keys() < lists
    assert left == []


def test_a_backup_made_as_the_readme_says_brings_the_transfers_back(tmp_path: Path) -> None:
    readme = (DEPLOY / "README.md").read_text()
    (tmp_path / "a").write_bytes(bytes(300 * KIB))
    with Fleet(tmp_path / "first") as fleet:
        kept = fleet.client.submit_paused(str(tmp_path / "a"), str(tmp_path / "b"))
        server = fleet.redis.client()
        server.config_set("auto-aof-rewrite-percentage", 0)
        wait_until(lambda: server.info("persistence")["aof_rewrite_in_progress"] == 0, "no rewrite")
        wait_until(lambda: server.info("persistence")["aof_buffer_length"] == 0, "the file is written")
        shutil.copytree(fleet.redis.folder / "appendonlydir", tmp_path / "backup")
        lost = fleet.client.submit_paused(str(tmp_path / "a"), str(tmp_path / "c"))

    restored = Fleet(tmp_path / "second")
    shutil.copytree(tmp_path / "backup", restored.redis.folder / "appendonlydir")
    with restored as fleet:
        fleet.worker("restored")
        fleet.client.resume(kept)
        ended = fleet.wait(kept)
        with pytest.raises(TransferNotFound):
            fleet.client.get(lost)

    assert ended.state == "completed"
    assert (tmp_path / "b").read_bytes() == bytes(300 * KIB)
    assert "auto-aof-rewrite-percentage 0" in readme
    assert "cp -a /data/appendonlydir" in readme


def test_the_acl_file_names_no_password() -> None:
    assert re.findall(r">(\S+)", (DEPLOY / "redis" / "users.acl").read_text()) == ["CHANGE-ME"]
