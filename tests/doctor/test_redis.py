"""What ``haulage doctor`` says of a Redis: each wrong setting is made on a real server."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from haulage.doctor import reach, server
from tests.doctor.ask import Answer, doctor
from tests.servers.certificates import CertificateAuthority
from tests.servers.process import free_port, wait_until
from tests.servers.tls_front import TlsFront
from tests.servers.valkey import Valkey

PASSWORD = "hunter2"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("good")) as running:
        yield running


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("locked"), extra=("--requirepass", PASSWORD)) as running:
        yield running


def look(url: str) -> Answer:
    return doctor({"HAULAGE_REDIS_URL": url}, "--only", "redis")


def test_a_redis_that_is_set_up_well_has_nothing_to_mend(good: Valkey) -> None:
    answer = look(good.url)

    assert answer.bad() == set()
    assert answer.code == 0
    assert answer.checks.keys() == {
        *("redis_reachable", "redis_version", "redis_mode", "redis_role", "redis_persistence", "redis_last_write"),
        *("redis_eviction", "redis_memory", "redis_appendfsync", "clock", "broker_rights"),
    }


@pytest.mark.parametrize(
    ("settings", "name", "status", "advice"),
    [
        (("--appendonly", "no"), "redis_persistence", "fail", "appendonly yes"),
        (("--maxmemory-policy", "allkeys-lru"), "redis_eviction", "fail", "noeviction"),
        (("--appendfsync", "no"), "redis_appendfsync", "warn", "everysec"),
        (("--cluster-enabled", "yes"), "redis_mode", "fail", "plain Redis"),
        (("--replicaof", "127.0.0.1 1"), "redis_role", "fail", "primary"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(
    tmp_path: Path, settings: tuple[str, ...], name: str, status: str, advice: str
) -> None:
    with Valkey(tmp_path / "redis", extra=settings) as wrong:
        answer = look(wrong.url)

    assert answer.bad() == {name}
    assert answer.checks[name]["status"] == status
    assert advice in answer.checks[name]["try_this"]
    assert answer.code == (1 if status == "fail" else 0)


def test_memory_is_watched_before_redis_refuses_writes(tmp_path: Path) -> None:
    with Valkey(tmp_path / "redis") as small:
        client = small.client()
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", int(used * 1.12))
        near = look(small.url)
        client.config_set("maxmemory", used // 2)
        full = look(small.url)

    assert near.checks["redis_memory"]["status"] == "warn"
    assert full.checks["redis_memory"]["status"] == "fail"
    assert "maxmemory" in full.checks["redis_memory"]["try_this"]


def test_an_append_only_file_that_could_not_be_written_is_a_failure(tmp_path: Path) -> None:
    with Valkey(tmp_path / "redis") as running:
        folder = tmp_path / "redis" / "appendonlydir"
        shutil.rmtree(folder)
        folder.write_text("in the way")
        with contextlib.suppress(redis.ResponseError):
            running.client().bgrewriteaof()
        wait_until(lambda: "redis_last_write" in look(running.url).bad(), "a failure of the rewrite")
        answer = look(running.url)

    assert answer.checks["redis_last_write"]["status"] == "fail"
    assert "free space" in answer.checks["redis_last_write"]["try_this"]


def test_an_old_redis_is_refused() -> None:
    old, fine = server.judged({"redis_version": "5.0.7"})[0], server.judged({"redis_version": "6.2.0"})[0]

    assert (old.name, old.status, fine.status) == ("redis_version", "fail", "ok")


def test_without_the_right_to_look_inside_the_check_says_what_it_could_not_see(good: Valkey) -> None:
    client = good.client()
    client.acl_setuser("blind", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping", "+time"], keys=["*"])

    answer = look(f"redis://blind:{PASSWORD}@127.0.0.1:{good.port}/0")

    assert answer.bad() == {"redis_info", "broker_rights"}
    assert "users.acl" in answer.checks["redis_info"]["try_this"]


def test_a_user_who_may_not_read_the_ledger_still_gets_the_other_checks(good: Valkey) -> None:
    rights = ["+ping", "+info", "+time", "+config|get"]
    good.client().acl_setuser("outsider", enabled=True, passwords=[f"+{PASSWORD}"], commands=rights, keys=["none"])

    answer = doctor({"HAULAGE_REDIS_URL": f"redis://outsider:{PASSWORD}@127.0.0.1:{good.port}/0"})

    assert (answer.code, answer.bad()) == (1, {"fleet", "broker_rights"})
    assert "NoPermissionError" in answer.checks["fleet"]["message"]
    assert "users.acl" in answer.checks["fleet"]["try_this"]


@pytest.mark.parametrize(("ahead", "status", "word"), [(0, "ok", ""), (30, "warn", "ahead"), (-3600, "fail", "behind")])
def test_a_clock_that_is_off_is_named(good: Valkey, ahead: float, status: str, word: str) -> None:
    found = server.clock(good.client(), now=lambda: time.time() + ahead)

    assert found.status == status
    assert word in found.message


@pytest.mark.parametrize(
    ("url", "message", "advice"),
    [
        ("redis://127.0.0.1:{port}/0", "wants a password", "redis://:PASSWORD@"),
        ("redis://:wrong@127.0.0.1:{port}/0", "refuses user or password", "requirepass"),
        ("redis://:hunter2@127.0.0.1:{port}/99", "no such database", "/0"),
        ("redis://:hunter2@127.0.0.1:{closed}/0", "nothing listens", "start Redis"),
        ("redis://:hunter2@no-such-host.invalid:6379/0", "cannot be resolved", "DNS"),
        ("unix:///nowhere/redis.sock?password=hunter2", "there is no socket", "start Redis"),
    ],
)
def test_why_redis_cannot_be_reached_is_told_apart(locked: Valkey, url: str, message: str, advice: str) -> None:
    answer = look(url.format(port=locked.port, closed=free_port()))

    assert answer.code == 1
    assert answer.checks.keys() == {"redis_reachable"}
    assert message in answer.checks["redis_reachable"]["message"]
    assert advice in answer.checks["redis_reachable"]["try_this"]
    assert PASSWORD not in answer.out + answer.err


@pytest.mark.parametrize(
    ("url", "message", "advice"),
    [
        ("rediss://localhost:{tls}/0?ssl_ca_certs={ca}", "", ""),
        ("rediss://localhost:{tls}/0", "is not trusted", "ssl_ca_certs"),
        ("redis://localhost:{tls}/0", "closed the connection", "rediss://"),
        ("rediss://127.0.0.1:{plain}/0", "TLS", "write redis://"),
    ],
)
def test_what_is_wrong_with_tls_is_told_apart(
    good: Valkey, tmp_path: Path, url: str, message: str, advice: str
) -> None:
    authority = CertificateAuthority(tmp_path / "ca")
    with TlsFront(good.port, authority.issue()) as front:
        place = url.format(tls=front.port, plain=good.port, ca=authority.certificate)
        with redis.Redis.from_url(place, socket_connect_timeout=1, socket_timeout=1, retry=None) as client:
            found = reach.reachable(client, place)

    assert (found.status == "ok") is (message == "")
    assert message in found.message
    assert advice in found.try_this


def test_a_redis_that_hangs_is_no_redis_that_is_gone(good: Valkey) -> None:
    with redis.Redis.from_url(good.url, socket_timeout=0.2, retry=None) as client, good.frozen():
        found = reach.reachable(client, good.url)

    assert "does not answer in time" in found.message


def test_a_broker_of_its_own_is_looked_at_too(good: Valkey, locked: Valkey) -> None:
    env = {"HAULAGE_REDIS_URL": good.url, "HAULAGE_BROKER_URL": locked.url}
    answer = doctor(env, "--only", "redis")

    assert answer.bad() == {"broker_reachable"}
    assert answer.code == 1
