"""Each number of the error table, forced once; and bad input, refused before any I/O and before Redis hears of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.client import TransferClient
from orchestrator.errors import (
    ClientClosed,
    DuplicateTransfer,
    HaulageError,
    InvalidSpec,
    InvalidState,
    LedgerUnavailable,
    QueueFull,
    TransferCancelled,
    TransferNotFound,
)
from orchestrator.settings import Settings, load_settings
from orchestrator.states import State
from tests.e2e.shared import KIB, QUICK_RETRY, STORE, Site, noise
from tests.servers.process import free_port, wait_until
from tests.servers.valkey import Valkey
from workers.leases import LeaseKeeper

pytest_plugins = ["tests.e2e.calm"]

PATH = "/object.bin"
DATA = noise(200 * KIB)

TABLE = {
    101: "a background service could not be started",
    102: "a value was refused",
    103: "a live transfer already writes there",
    104: "Redis may not store the transfer",
    105: "a local file could not be written, or is there already",
    106: "the network failed",
    107: "the client was closed",
    108: "no such transfer, or it has ended",
    109: "an answer with a status nobody can act on",
    110: "no usable length",
    111: "the queue is full",
    112: "Redis did not answer",
    113: "an answer that cannot be read",
    114: "not the range, or not the object, that was asked for",
    115: "the local source is not there",
    116: "not the right bytes",
    117: "not allowed in this state",
    118: "a record cannot be read by this version",
    119: "a provider's client could not be built",
    120: "cancelled",
    121: "no space left (with a disk of its own: on_small_disk.py)",
    122: "a local file vanished in mid-transfer",
}
"""What the tests below force, end to end where that can be."""


def error_of(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(HaulageError) as raised:
        call()
    return raised.value.number, raised.value.code


def test_101_a_thread_that_cannot_be_started(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert error_of(LeaseKeeper(site.fleet.ledger, "host:1:a").start) == (101, "runtime_failed")


def test_102_a_value_is_refused(site: Site) -> None:
    assert error_of(lambda: site.submit("gopher://host/x", site.folder / "x")) == (102, "invalid_value")


def test_103_a_second_transfer_to_one_destination_is_refused_with_the_first_ones_id(site: Site) -> None:
    first = site.client.submit_paused(str(site.file(DATA)), str(site.folder / "x"))

    with pytest.raises(DuplicateTransfer) as raised:
        site.submit("mem:other", site.folder / "x")

    assert (raised.value.number, raised.value.code, raised.value.transfer_id) == (103, "duplicate", first)
    site.client.cancel(first)
    site.run(site.folder / "source.bin", site.folder / "x")


def test_104_a_redis_that_is_full_refuses_the_transfer_as_a_whole(site: Site) -> None:
    with Valkey(site.folder / "redis") as server, TransferClient(Settings(redis_url=server.url)) as client:
        server.client().config_set("maxmemory", 1)

        assert error_of(lambda: client.submit("mem:a", "mem:b")) == (104, "submit_failed")

        assert server.client().keys("hl:*") == []


def test_105_a_destination_that_cannot_be_written(site: Site) -> None:
    assert site.fail(site.file(DATA), "/proc/nothing/x.bin") == (105, "io")


def test_106_a_server_that_is_not_there(site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}/x.bin"

    ended = site.fail(url, site.folder / "x", retry={**QUICK_RETRY, "prepare_attempts": 2})

    assert ended == (106, "transport")


def test_107_a_closed_client_takes_no_calls(site: Site) -> None:
    client = TransferClient(site.fleet.settings)
    client.close()
    client.close()

    assert client.is_closed
    for call in (lambda: client.submit("mem:a", "mem:b"), lambda: client.get("s0-1"), lambda: client.pause("s0-1")):
        assert error_of(call) == (107, ClientClosed.code)


@pytest.mark.parametrize("transfer_id", ["s0-00000000000", "s7-00000000000", "no id", "", "s0-" + "x" * 10_000])
def test_108_an_id_that_nobody_knows(site: Site, transfer_id: str) -> None:
    for call in (site.client.get, site.client.wait, site.client.pause, site.client.cancel, site.client.retry):
        assert error_of(lambda call=call: call(transfer_id)) == (108, TransferNotFound.code)  # type: ignore[misc]


def test_108_a_transfer_that_has_ended(site: Site) -> None:
    transfer_id = site.run(site.file(DATA), site.folder / "x").transfer_id

    assert error_of(lambda: site.client.cancel(transfer_id)) == (108, "transfer_ended")


def test_109_a_status_nobody_can_act_on(site: Site) -> None:
    site.web.fault(PATH, status=418)

    assert site.fail(site.web.base + PATH, site.folder / "x") == (109, "response_status")


def test_109_an_object_that_is_not_there(site: Site) -> None:
    for source in (site.web.base + PATH, site.store.url(site.key()), "mem:" + site.key()):
        assert site.fail(source, site.folder / "x") == (109, "not_found")


def test_109_a_bucket_and_a_key_that_are_refused(site: Site) -> None:
    assert site.store.url(site.key())  # the server is there, the bucket is not
    assert site.fail(site.file(DATA), "s3://no-such-bucket/x") == (109, "not_found")


def test_110_a_body_without_a_length(site: Site) -> None:
    site.web.serve(PATH, DATA, ranges=False)
    site.web.fault(PATH, close_delimited=True)

    assert site.fail(site.web.base + PATH, site.folder / "x") == (110, "length_unknown")


def test_111_a_full_queue_is_an_error_at_once(site: Site) -> None:
    """RC-03, BN-02."""
    with Valkey(site.folder / "redis") as server:
        settings = Settings(redis_url=server.url, queue_capacity=1, upload_slots=1, host="testhost")
        with TransferClient(settings) as client:
            client.submit("mem:a", "mem:1")  # takes the one slot; nobody works here
            client.submit("mem:a", "mem:2")
            before = server.client().dbsize()

            began = time.monotonic()
            ended = error_of(lambda: client.submit("mem:a", "mem:3"))

            assert ended == (111, QueueFull.code)
            assert time.monotonic() - began < 1.0
            assert server.client().dbsize() == before
            assert len(client.list()) == 2


def test_112_redis_is_away(site: Site) -> None:
    settings = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", redis_retry_seconds=0)
    with TransferClient(settings) as client:
        for call in (lambda: client.submit("mem:a", "mem:b"), lambda: client.get("s0-00000000000"), client.list):
            assert error_of(call) == (112, LedgerUnavailable.code)


def test_113_an_answer_that_cannot_be_read(site: Site) -> None:
    site.web.fault(PATH, status=302)  # to nowhere: there is no Location

    assert site.fail(site.web.base + PATH, site.folder / "x") == (113, "response_parse")


def test_114_an_answer_that_is_another_range(site: Site) -> None:
    site.web.serve(PATH, DATA)
    site.web.fault(PATH, method="GET", shift_start=1)

    assert site.fail(site.web.base + PATH, site.folder / "x") == (114, "invalid_range")


def test_115_a_source_that_is_not_there(site: Site) -> None:
    assert site.fail(site.folder / "nothing", site.folder / "x") == (115, "file_not_found")


def test_116_bytes_that_are_not_the_right_ones(site: Site) -> None:
    ended = site.fail(site.file(DATA), site.folder / "x", checksum="md5:" + "0" * 32)

    assert ended == (116, "checksum_mismatch")


def test_117_what_the_state_does_not_allow(site: Site) -> None:
    transfer_id = site.client.submit_paused("mem:a", "mem:" + site.key())

    assert error_of(lambda: site.client.retry(transfer_id)) == (117, InvalidState.code)

    site.client.cancel(transfer_id)


def test_118_a_record_of_another_version_is_parked_and_taken_up_when_it_can_be_read(site: Site) -> None:
    transfer_id = site.client.submit_paused(str(site.file(DATA)), str(site.folder / "x"))
    key = f"{site.fleet.ledger.prefix(transfer_id)}t:{transfer_id}"
    redis = site.fleet.redis.client()
    redis.hset(key, "schema", 99)

    site.client.resume(transfer_id)
    wait_until(lambda: redis.hget(key, "reason") == b"schema", "it is parked")
    assert redis.hget(key, "state") == b"waiting"
    parked = site.client.get(transfer_id)
    assert (parked.error["number"], parked.error["code"]) == (118, "ledger_corrupt")
    assert not (site.folder / "x").exists()

    redis.hset(key, "schema", 1)
    site.client.pause(transfer_id)
    site.client.resume(transfer_id)
    site.fleet.wait(transfer_id)

    assert (site.folder / "x").read_bytes() == DATA


def test_119_a_provider_that_cannot_be_built_is_waited_for(site: Site) -> None:
    transfer_id = site.submit("https://127.0.0.1:1/x", site.folder / "x", source_profile="broken")

    waiting = site.fleet.wait_state(transfer_id, State.WAITING)

    assert waiting.reason == "provider"
    assert (waiting.error["number"], waiting.error["code"]) == (119, "http_client_build_failed")
    site.client.cancel(transfer_id)


def test_120_waiting_for_what_was_cancelled(site: Site) -> None:
    transfer_id = site.client.submit_paused("mem:a", "mem:" + site.key())
    site.client.cancel(transfer_id)

    assert error_of(lambda: site.client.wait(transfer_id)) == (120, TransferCancelled.code)


def test_122_a_file_that_vanishes_while_it_is_read(site: Site) -> None:
    source = site.file(noise(300 * KIB))
    transfer_id = site.submit(source, site.folder / "x", part_size=100, parts_in_flight=1)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done > 0, "a part is stored")

    source.unlink()
    failed = site.fleet.wait_state(transfer_id, State.FAILED)

    assert (failed.error["number"], failed.error["code"]) == (122, "local_file_removed")


def test_every_number_is_forced_above_and_keeps_its_meaning() -> None:
    forced = {int(name[5:8]) for name in globals() if name[:5] == "test_" and name[5:8].isdigit()}

    assert forced | {121} == set(TABLE)


# bad input

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown scheme": ({"source": "gopher://host/x"}, "source", "one of"),
    "a scheme that only reads": ({"destination": "ftp://host/x"}, "destination", "one of"),
    "no source": ({"source": ""}, "source", "a URL or a path"),
    "no destination": ({"destination": " "}, "destination", "a URL or a path"),
    "no host": ({"source": "https:///x"}, "source", "https://host/path"),
    "a port that is none": ({"source": "http://host:99999/x"}, "source", "port"),
    "a password in the URL": ({"source": "http://me:secret@host/x"}, "source", "profile"),
    "no key": ({"source": "s3://bucket"}, "source", "s3://bucket/key"),
    "no bucket": ({"source": "s3:///key"}, "source", "s3://bucket/key"),
    "a relative path": ({"source": "some/file"}, "source", "absolute path"),
    "dots in a path": ({"destination": "/tmp/../etc/passwd"}, "destination", "without '..'"),
    "encoded dots in a path": ({"destination": "file:///tmp/%2e%2e/etc/passwd"}, "destination", "without '..'"),
    "a NUL in a path": ({"destination": "file:///tmp/a%00b"}, "destination", "NUL"),
    "a line break in a URL": ({"source": "http://host/x\r\nHost: other"}, "source", "control characters"),
    "onto itself": ({"destination": "/tmp/in.bin"}, "destination", "other than the source"),
    "a negative size": ({"size_bytes": -1}, "size_bytes", "greater than or equal to 0"),
    "a size that is no number": ({"size_bytes": "many"}, "size_bytes", "8MiB"),
    "a part size of nothing": ({"part_size": 0}, "part_size", "greater than or equal to 1"),
    "a negative part size": ({"part_size": -5}, "part_size", ""),
    "a part size below the store's": ({"destination": "s3://b/k", "part_size": "1MiB"}, "part_size", "5242880 to"),
    "a part size above the store's": ({"destination": "s3://b/k", "part_size": "6GiB"}, "part_size", "5242880 to"),
    "too many parts": (
        {"destination": "s3://b/k", "part_size": "5MiB", "size_bytes": "50GiB"},
        "part_size",
        "at most 10000 parts",
    ),
    "too large an object": ({"destination": "mem:x", "size_bytes": "17MiB"}, "size_bytes", "at most 16777216"),
    "no part in flight": ({"parts_in_flight": 0}, "parts_in_flight", "1"),
    "too many parts in flight": ({"parts_in_flight": 1025}, "parts_in_flight", "1024"),
    "an unknown profile": ({"source_profile": "nobody"}, "source_profile", STORE),
    "an unknown pool": ({"pool": "nowhere"}, "pool", "control"),
    "an unknown host": ({"destination": "file://elsewhere/tmp/x"}, "destination", "source's host"),
    "an unknown host alone": (
        {"source": "mem:x", "destination": "file://elsewhere/tmp/x"},
        "destination host",
        "testhost",
    ),
    "a line break in a header": ({"headers": {"X-A": "1\r\nHost: x"}}, "headers", "one line"),
    "a header name that is none": ({"headers": {"X A": "1"}}, "headers", "token"),
    "a header of our own": ({"headers": {"Range": "bytes=0-1"}}, "headers", "Range"),
    "a line break in the method": ({"method": "GET\r\nX: y"}, "method", "one line"),
    "a checksum that is none": ({"checksum": "sha256:xyz"}, "checksum", "sha256 (64 digits)"),
    "an unknown on_exists": ({"on_exists": "maybe"}, "on_exists", "'fail', 'skip' or 'overwrite'"),
    "an unknown option": ({"speed": "fast"}, "speed", ""),
    "a server copy between two kinds of store": ({"source": "mem:x", "copy": "server"}, "copy", "relay"),
    "a retry budget of nothing": ({"retry": {"part_attempts": 0}}, "retry.part_attempts", "1"),
    "an unknown priority": ({"priority": 10}, "priority", "9"),
    "a tenant with a space": ({"tenant": "a b"}, "tenant", "pattern"),
    "an empty idempotency key": ({"idempotency_key": ""}, "idempotency_key", "1 character"),
}


@pytest.mark.parametrize(("given", "field", "allowed"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_by_name_before_anything_is_stored(
    site: Site, given: dict[str, Any], field: str, allowed: str
) -> None:
    values = {"source": "/tmp/in.bin", "destination": "/tmp/out.bin", **given}
    redis = site.fleet.redis.client()
    before = (len(site.client.list(limit=100_000)), _stored(redis))

    with pytest.raises(InvalidSpec) as raised:
        site.client.submit(**values)

    assert raised.value.number == 102
    assert raised.value.field == field
    assert allowed in raised.value.allowed
    assert "secret" not in str(raised.value)
    assert (len(site.client.list(limit=100_000)), _stored(redis)) == before


def _stored(redis: Any) -> set[bytes]:
    """Every key of the ledger but the workers' own heartbeats and the sweepers' lock."""
    living = {b"procs", b"sweep", b"swept", b"due"}
    return {key for key in redis.scan_iter("hl:{s*") if key.rpartition(b":")[2] not in living}


@pytest.mark.parametrize("role", ["source", "destination"])
def test_a_path_outside_the_roots_is_refused(site: Site, role: str) -> None:
    roots: dict[str, Any] = {"redis_url": site.fleet.redis.url, "roots": (str(site.folder),), "host": "testhost"}
    inside = str(site.file(DATA))
    with TransferClient(Settings(**roots)) as client:
        for outside in ("/etc/passwd", str(site.folder) + "-not", str(site.folder.parent / "x")):
            values = {"source": inside, "destination": str(site.folder / "x"), role: outside}
            with pytest.raises(InvalidSpec) as raised:
                client.submit(**values)
            assert (raised.value.field, raised.value.number) == (role, 102)
            assert str(site.folder) in raised.value.allowed


def test_with_no_worker_alive_a_profile_and_a_pool_are_taken_on_trust(site: Site) -> None:
    with Valkey(site.folder / "redis") as server, TransferClient(Settings(redis_url=server.url)) as client:
        transfer_id = client.submit("s3://b/k", "mem:x", source_profile="later", pool="later")

        assert client.get(transfer_id).state in (State.QUEUED, State.PREPARING)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("REDIS_URL", "http://host", "redis://"),
        ("LEASE_SECONDS", "-1", "greater than 0"),
        ("LEASE_SECONDS", "soon", "number"),
        ("PARTS_IN_FLIGHT", "0", "1"),
        ("HOST", "a b", "pattern"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(f"HAULAGE_{variable}", value)

    with pytest.raises(InvalidSpec) as raised:
        load_settings()

    assert raised.value.field == f"HAULAGE_{variable}"
    assert allowed in raised.value.allowed


def test_the_same_idempotency_key_gives_the_same_transfer(site: Site) -> None:
    source, target = site.file(DATA), site.folder / "x"

    first = site.submit(source, target, idempotency_key="once")
    site.fleet.wait(first)
    again = site.submit(source, target, idempotency_key="once")
    elsewhere = site.submit(source, site.folder / "y", idempotency_key="once")
    site.fleet.wait(elsewhere)

    assert again == first
    assert elsewhere != first
    assert os.path.getsize(target) == len(DATA)
