"""The S3 server and the logging proxy keep their promises: without these, a failure elsewhere would say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.logging_proxy import LoggingProxy
from tests.servers.s3_server import S3Server

MIB = 1 << 20
BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket("things")
        yield running


@pytest.fixture
def proxy(server: S3Server) -> Iterator[LoggingProxy]:
    with LoggingProxy(server.endpoint) as running:
        yield running


def test_two_servers_run_at_once_and_know_only_their_own_keys(server: S3Server, tmp_path: Path) -> None:
    with S3Server(tmp_path) as other:
        other.make_bucket("things")
        other.client().put_object(Bucket="things", Key="a", Body=b"other")

        assert other.read("things", "a") == b"other"
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            server.client(endpoint=other.endpoint).list_buckets()


def test_a_killed_server_comes_back_with_its_data_on_the_same_endpoint(tmp_path: Path) -> None:
    with S3Server(tmp_path) as server:
        server.make_bucket("things")
        server.client().put_object(Bucket="things", Key="a", Body=BODY)
        endpoint = server.endpoint

        server.restart()

        assert server.endpoint == endpoint
        assert server.read("things", "a") == BODY


def test_the_proxy_logs_parts_with_their_bytes(server: S3Server, proxy: LoggingProxy) -> None:
    client = server.client(proxy.endpoint)
    upload = client.create_multipart_upload(Bucket="things", Key="ö/p")["UploadId"]
    client.upload_part(Bucket="things", Key="ö/p", UploadId=upload, PartNumber=2, Body=BODY)
    client.upload_part(Bucket="things", Key="ö/p", UploadId=upload, PartNumber=2, Body=b"again")

    assert proxy.part_bytes("ö/p") == {2: [len(BODY), 5]}
    assert [each.status for each in proxy.requests("PUT")] == [200, 200]


def test_the_proxy_logs_ranges_and_what_was_sent_back(server: S3Server, proxy: LoggingProxy) -> None:
    server.client().put_object(Bucket="things", Key="a", Body=BODY)

    server.client(proxy.endpoint).get_object(Bucket="things", Key="a", Range="bytes=10-19")["Body"].read()

    (entry,) = proxy.requests("GET", "/things/a")
    assert (entry.range, entry.status, entry.received_bytes) == ("bytes=10-19", 206, 10)


def test_a_dropped_reply_leaves_the_object_behind(server: S3Server, proxy: LoggingProxy) -> None:
    proxy.drop_reply("PUT", "/dropped")

    with pytest.raises(BotoCoreError):
        server.client(proxy.endpoint).put_object(Bucket="things", Key="dropped", Body=b"x")

    assert server.read("things", "dropped") == b"x"
    assert [(each.status, each.fault) for each in proxy.requests("PUT")] == [(0, "drop_reply")]


def test_a_cut_upload_never_becomes_an_object(server: S3Server, proxy: LoggingProxy) -> None:
    proxy.cut_after(MIB, "PUT", "/cut", nth=1, times=1)
    client = server.client(proxy.endpoint)

    with pytest.raises(BotoCoreError):
        client.put_object(Bucket="things", Key="cut", Body=bytes(8 * MIB))

    (entry,) = proxy.requests("PUT")
    assert MIB <= entry.sent_bytes < 8 * MIB
    with pytest.raises(ClientError, match="NoSuchKey"):
        server.read("things", "cut")


def test_a_canned_answer_hides_the_server_only_as_often_as_asked(server: S3Server, proxy: LoggingProxy) -> None:
    proxy.answer("PUT", "/busy", status=503, body=b"<Error><Code>SlowDown</Code></Error>", nth=2)
    client = server.client(proxy.endpoint)
    client.put_object(Bucket="things", Key="busy", Body=b"1")

    with pytest.raises(ClientError, match="SlowDown"):
        client.put_object(Bucket="things", Key="busy", Body=b"2")
    client.put_object(Bucket="things", Key="busy", Body=b"3")

    assert [each.status for each in proxy.requests("PUT")] == [200, 503, 200]


def test_each_connection_is_throttled_until_it_is_not(server: S3Server, proxy: LoggingProxy) -> None:
    proxy.bytes_per_second = 2 * MIB
    client = server.client(proxy.endpoint)
    began = time.monotonic()
    client.put_object(Bucket="things", Key="slow", Body=BODY)
    slow = time.monotonic() - began

    proxy.bytes_per_second = None
    began = time.monotonic()
    client.put_object(Bucket="things", Key="slow", Body=BODY)

    assert slow > 0.45
    assert time.monotonic() - began < slow


def test_a_request_can_be_seen_while_it_is_under_way(server: S3Server, proxy: LoggingProxy) -> None:
    proxy.bytes_per_second = 4 * MIB
    server.client().put_object(Bucket="things", Key="watched", Body=BODY * 2)
    body = server.client(proxy.endpoint).get_object(Bucket="things", Key="watched")["Body"]

    proxy.wait_for(lambda seen: seen.log[0].received_bytes > 0)

    assert proxy.log[0].ended is None
    body.close()


def test_the_proxy_runs_as_a_program(server: S3Server) -> None:
    command = [sys.executable, "-m", "tests.servers.logging_proxy", server.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as program:
        assert program.stdout is not None
        endpoint = json.loads(program.stdout.readline())["endpoint"]
        server.client(endpoint).list_buckets()
        entry = json.loads(program.stdout.readline())
        program.terminate()

    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/", 200)
