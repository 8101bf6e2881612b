"""The servers of the tests keep their promises: without these, a failure elsewhere would say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from tests.servers.certificates import CertificateAuthority
from tests.servers.nginx import Nginx
from tests.servers.process import ServerFailed, ServerProcess, free_port, wait_until
from tests.servers.valkey import Valkey

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def www(tmp_path: Path) -> Path:
    root = tmp_path / "www"
    root.mkdir()
    (root / "a b.bin").write_bytes(BODY)
    return root


def test_ports_handed_out_are_all_different() -> None:
    ports = [free_port(also_offset=10_000) for _ in range(50)]

    assert len(set(ports)) == 50


def test_a_port_taken_here_is_not_handed_out_to_another_process() -> None:
    mine = free_port()
    ask = "from tests.servers import process; process.PORTS = range(int(a := __import__('sys').argv[1]), int(a) + 1)"

    other = subprocess.run(
        [sys.executable, "-c", f"{ask}; process.free_port()", str(mine)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"no free port in range({mine}, {mine + 1})" in other.stderr


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("1", "1 failed")], ids=["laptop", "CI"])
def test_a_server_that_is_not_installed_skips_a_test_but_not_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    (tmp_path / "test_it.py").write_text(
        "from tests.servers.process import find_binary\n"
        "def test_it():\n    find_binary(lambda: None, 'no-such-server', install='the package no-such')\n"
    )
    argv = [sys.executable, "-m", "pytest", "-ra", "-p", "tests.conftest", f"--rootdir={tmp_path}", str(tmp_path)]

    run = subprocess.run(
        argv, cwd=Path(__file__).parents[2], env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False
    )

    assert outcome in run.stdout
    assert "no-such-server cannot run here: install the package no-such" in run.stdout


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('the disk is on fire'); raise SystemExit(1)"]
    server = ServerProcess(argv, log=tmp_path / "log", ready=lambda: False)

    with pytest.raises(ServerFailed, match="the disk is on fire"):
        server.start()


def test_a_server_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    server = ServerProcess(argv, log=tmp_path / "log", ready=lambda: False, deadline_seconds=0.2)

    with pytest.raises(ServerFailed, match=r"not within 0\.2 s"):
        server.start()

    assert not server.alive


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    log = tmp_path / "log"
    server = ServerProcess([sys.executable, "-c", code], log=log, ready=lambda: "up" in log.read_text()).start()

    server.stop(grace_seconds=0.2)

    assert not server.alive


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from tests.servers.valkey import Valkey;"
        "print(Valkey(pathlib.Path(sys.argv[1])).start().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))

        parent.kill()

    wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "the server is gone")


def test_valkey_keeps_its_data_and_its_port_when_killed(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        url, client = server.url, server.client()
        client.set("part:1", "done")

        server.kill()
        server.start()

        assert server.url == url
        assert client.get("part:1") == b"done"


def test_valkey_without_an_append_only_file_comes_back_empty(tmp_path: Path) -> None:
    with Valkey(tmp_path, appendonly=False) as server:
        server.client().set("part:1", "done")

        server.restart()

        assert server.client().get("part:1") is None


def test_valkey_never_evicts_and_takes_further_arguments(tmp_path: Path) -> None:
    with Valkey(tmp_path, extra=("--databases", "3")) as server:
        config = server.client(database=2).config_get()

    assert config["maxmemory-policy"] == "noeviction"
    assert config["appendfsync"] == "everysec"
    assert config["databases"] == "3"


def test_a_frozen_valkey_answers_again_when_thawed(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        with server.frozen():
            wait_until(lambda: psutil.Process(server.pid).status() == psutil.STATUS_STOPPED, "the server is frozen")

        assert server.client().ping() is True


def test_nginx_tells_what_it_sent_to_whom(www: Path) -> None:
    with Nginx(www) as server, requests.Session() as session:
        url = server.url("a b.bin")
        whole = session.get(url)
        part = session.get(url, headers={"Range": "bytes=10-19", "If-Match": whole.headers["ETag"]})
        wait_until(lambda: len(server.requests()) == 2, "both requests are in the log")
        first, second = server.requests()

    assert whole.content == BODY
    assert (part.status_code, part.content) == (206, BODY[10:20])
    assert (first.method, first.path, first.status, first.body_bytes) == ("GET", "/a%20b.bin", 200, len(BODY))
    assert (second.range, second.status, second.body_bytes) == ("bytes=10-19", 206, 10)
    assert second.if_match == whole.headers["ETag"]
    assert second.connection == first.connection
    assert second.completed


def test_nginx_throttles_each_reply(www: Path) -> None:
    with Nginx(www, limit_rate=len(BODY) // 2) as server:
        started = time.monotonic()
        body = requests.get(server.url("a b.bin")).content
        seconds = time.monotonic() - started

    assert body == BODY
    assert seconds > 0.8  # half of it at once, the other half a second later


def test_nginx_logs_a_reply_that_the_client_left(www: Path) -> None:
    with Nginx(www, limit_rate=64 * 1024) as server:
        requests.get(server.url("a b.bin"), stream=True).close()
        wait_until(lambda: len(server.requests()) == 1, "the request is in the log")
        (request,) = server.requests()

    assert not request.completed
    assert request.body_bytes < len(BODY)


def test_nginx_refuses_more_requests_at_a_time_than_asked(www: Path) -> None:
    with (
        Nginx(www, limit_rate=64 * 1024, limit_conn=1) as server,
        requests.get(server.url("a b.bin"), stream=True) as first,
    ):
        second = requests.get(server.url("a b.bin"))

    assert (first.status_code, second.status_code) == (200, 503)


def test_nginx_can_do_without_ranges_and_etags(www: Path) -> None:
    with Nginx(www, ranges=False, etag=False) as server:
        reply = requests.get(server.url("a b.bin"), headers={"Range": "bytes=10-19"})

    assert (reply.status_code, reply.content) == (200, BODY)
    assert not {"ETag", "Accept-Ranges"} & set(reply.headers)


def test_nginx_takes_further_directives(www: Path) -> None:
    with Nginx(www, directives='add_header X-Served-By "test";') as server:
        reply = requests.head(server.url("a b.bin"))

    assert reply.headers["X-Served-By"] == "test"


@pytest.mark.parametrize("body", [b"", BODY], ids=["empty", "1 MiB"])
def test_nginx_stores_a_put_whole(www: Path, body: bytes) -> None:
    with Nginx(www, put=True) as server:
        url = server.url("new/folder/ö.bin")
        created = requests.put(url, data=body)
        replaced = requests.put(url, data=iter([body, b"more"]))  # chunked
        stored = requests.get(url).content

    assert (created.status_code, replaced.status_code) == (201, 204)
    assert stored == body + b"more"
    assert (www / "new/folder/ö.bin").read_bytes() == stored


def test_nginx_refuses_a_partial_put(www: Path) -> None:
    with Nginx(www, put=True) as server:
        reply = requests.put(server.url("a b.bin"), data=b"x", headers={"Content-Range": "bytes 0-0/1048576"})

    assert reply.status_code == 501
    assert (www / "a b.bin").read_bytes() == BODY


def test_nginx_serves_tls_that_only_its_own_authority_vouches_for(www: Path, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "tls")
    with Nginx(www, tls=authority.issue()) as server:
        trusted = requests.get(server.url("a b.bin"), verify=str(authority.certificate))
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(server.url("a b.bin"))

    assert trusted.content == BODY


def test_nginx_asks_for_a_client_certificate(www: Path, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "tls")
    client = authority.issue("client")
    with Nginx(www, tls=authority.issue(), client_ca=authority.certificate) as server:
        url, verify = server.url("a b.bin"), str(authority.certificate)
        known = requests.get(url, verify=verify, cert=(str(client.certificate), str(client.key)))
        unknown = requests.get(url, verify=verify)

    assert (known.status_code, unknown.status_code) == (200, 400)


def test_nginx_killed_and_started_again_serves_on_the_same_url(www: Path) -> None:
    with Nginx(www) as server:
        url = server.url("a b.bin")
        server.kill()
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(url)

        server.start()

        assert requests.get(url).content == BODY
