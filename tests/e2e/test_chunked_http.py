"""Uploads to a server of the chunked HTTP protocol: in order, resumed where the server says, bounded, whole."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.states import State
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.shared import KIB, QUICK_RETRY, Site, noise
from tests.servers.chunked_server import ChunkedServer, Reply

pytest_plugins = ["tests.e2e.calm"]

PART = 64 * KIB
DATA = noise(5 * PART + 321)
NAME = "source.bin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChunkedServer]:
    with ChunkedServer(tmp_path / "kept") as server:
        yield server


def send(site: Site, server: ChunkedServer, data: bytes = DATA, **options: Any) -> Any:
    options = {"part_size": PART, "parts_in_flight": 4, **options}
    return site.run(site.file(data), server.url(), **options)


def test_rc_51_and_82_a_file_goes_up_in_order_one_chunk_at_a_time(site: Site, server: ChunkedServer) -> None:
    server.bytes_per_second = 2_000_000

    done = send(site, server, headers={"Authorization": "Bearer t"})

    assert server.stored(NAME) == DATA
    assert server.offsets == [number * PART for number in range(6)]
    assert server.busiest == 1
    assert len(server.prepares) == 1
    assert {form.headers["authorization"] for form in server.forms} == {"Bearer t"}
    md5 = hashlib.md5(DATA).hexdigest()  # noqa: S324  # the protocol's own
    assert {form.fields["fileMd5"] for form in server.forms} == {md5}
    assert done.result["payload"] == f"id-{md5[:8]}"
    assert done.result["name"] == NAME
    assert done.result["crc64nvme"]
    site.fleet.assert_nothing_is_left(done.transfer_id)


@pytest.mark.parametrize("size_bytes", [0, 1, PART, PART + 1])
def test_objects_of_every_size_arrive(site: Site, server: ChunkedServer, size_bytes: int) -> None:
    done = send(site, server, noise(size_bytes))

    assert server.stored(NAME) == noise(size_bytes)
    assert len(server.chunks) == -(-size_bytes // PART)
    assert done.result["size_bytes"] == size_bytes


def test_rc_54_only_what_the_server_lacks_is_sent(site: Site, server: ChunkedServer) -> None:
    held = 2 * PART + 777
    server.hold(NAME, DATA, held)

    done = send(site, server)

    assert server.stored(NAME) == DATA
    assert server.offsets == [held, 3 * PART, 4 * PART, 5 * PART]
    assert server.bytes_taken == len(DATA) - held
    assert done.progress.parts_done == 6


@pytest.mark.parametrize("said", [Reply(file_id="there"), Reply(next_byte=len(DATA))])
def test_rc_54_and_56_what_the_server_has_is_not_sent_at_all(site: Site, server: ChunkedServer, said: Reply) -> None:
    server.prepare_script.append(said)

    done = send(site, server)

    assert server.chunks == []
    assert done.progress.durable_bytes == len(DATA)
    assert "payload" not in done.result


@pytest.mark.parametrize("back_to", [0, PART + 5, 2 * PART + 5], ids=["to the start", "into a part", "in this part"])
def test_rc_55_an_honest_rewind_is_followed(site: Site, server: ChunkedServer, back_to: int) -> None:
    server.chunk_script += [None, None, Reply(next_byte=back_to, forget=back_to)]

    send(site, server)

    assert server.stored(NAME) == DATA
    assert server.offsets[3] == back_to
    assert server.bytes_taken == len(DATA) + 3 * PART - back_to
    assert len(server.prepares) == 1


def test_rc_55_a_server_that_is_ahead_is_followed(site: Site, server: ChunkedServer) -> None:
    server.hold(NAME, DATA, 4 * PART)
    server.prepare_script.append(Reply(next_byte=0))

    send(site, server)

    assert server.stored(NAME) == DATA
    assert server.offsets == [0, 4 * PART, 5 * PART]


@pytest.mark.parametrize("said", [0, 2 * PART], ids=["rewinds", "repeats"])
def test_rc_55_a_server_that_never_goes_on_is_given_up(site: Site, server: ChunkedServer, said: int) -> None:
    server.chunk_script += [None, None, *[Reply(next_byte=said)] * 1000]

    ended = site.fail(site.file(DATA), server.url(), part_size=PART)

    assert ended == (114, "offset_stuck")
    assert len(server.chunks) <= 2 + 4 * 3


def test_rc_56_an_id_in_mid_file_ends_the_upload_at_once(site: Site, server: ChunkedServer) -> None:
    server.chunk_script += [None, Reply(file_id="enough")]

    done = send(site, server)

    assert len(server.chunks) == 2
    assert done.result["payload"] == "enough"


def test_rc_57_an_upload_ends_without_an_id_once_all_bytes_are_there(site: Site, server: ChunkedServer) -> None:
    server.says_file_id = False

    done = send(site, server)

    assert server.stored(NAME) == DATA
    assert "payload" not in done.result
    assert done.result["verified"] == "size"


@pytest.mark.parametrize("fault", [Reply(hang_up=True), Reply(status=503)], ids=["lost reply", "unavailable"])
def test_rc_58_after_a_fault_the_server_is_asked_and_bytes_it_has_are_not_sent_again(
    site: Site, server: ChunkedServer, fault: Reply
) -> None:
    server.chunk_script += [None, fault]

    done = send(site, server)

    assert server.stored(NAME) == DATA
    assert server.offsets == [number * PART for number in range(6)]
    assert server.bytes_taken == len(DATA)
    assert len(server.prepares) == 2
    assert done.result["payload"]


def test_a_refusal_fails_the_transfer_with_the_words_of_the_server(site: Site, server: ChunkedServer) -> None:
    server.chunk_script.append(Reply(status=403, body=b"category is closed"))

    transfer_id = site.submit(site.file(DATA), server.url(), part_size=PART)
    ended = site.fleet.wait_state(transfer_id, State.FAILED)

    assert ended.error["code"] == "forbidden"
    assert "category is closed" in ended.error["message"]


def test_two_files_go_to_one_address_at_once_and_one_name_only_once(site: Site, server: ChunkedServer) -> None:
    first = site.submit(site.file(DATA, "a.bin"), server.url(), part_size=PART)
    second = site.submit(site.file(DATA[1:], "b.bin"), server.url(), part_size=PART)
    third = site.submit(site.file(DATA[2:], "c.bin"), server.url("named.bin"), part_size=PART)

    for each in (first, second, third):
        site.fleet.wait(each)

    assert server.stored("a.bin") == DATA
    assert server.stored("b.bin") == DATA[1:]
    assert server.stored("named.bin") == DATA[2:]


def test_a_source_without_ranges_is_read_again_and_only_what_is_missing_travels(
    site: Site, server: ChunkedServer
) -> None:
    url = site.web.serve("/plain.bin", DATA, ranges=False)
    server.chunk_script += [None, None, Reply(next_byte=PART, forget=PART)]

    site.run(url, server.url("plain.bin"), part_size=PART)

    assert server.stored("plain.bin") == DATA
    assert server.bytes_taken == len(DATA) + 2 * PART


def test_rc_52_the_hash_is_made_under_a_lease_shown_and_stopped_by_a_pause(site: Site, server: ChunkedServer) -> None:
    url = site.web.serve("/slow.bin", DATA)
    site.web.throttle = 32 * KIB
    transfer_id = site.submit(url, server.url("slow.bin"), part_size=PART)
    eventually(lambda: site.fleet.live_leases(transfer_id).get("prep", ("", 0))[1] > 0, "bytes are hashed")
    argv = [sys.executable, "-m", "haulage", "show", transfer_id]
    shown = subprocess.run(argv, env=site.fleet.environment, capture_output=True, text=True, check=True).stdout

    site.client.pause(transfer_id)
    began = time.monotonic()
    eventually(lambda: not site.fleet.live_leases(transfer_id), "nobody reads")
    stopped_after = time.monotonic() - began
    site.web.throttle = None
    site.client.resume(transfer_id)
    site.fleet.wait(transfer_id)

    assert re.search(r"prepares it, [\d.]+ KiB read", shown)
    assert stopped_after < 4  # a second, on a machine that has nothing else to do; the whole would take ten
    assert server.stored("slow.bin") == DATA


def test_a_source_that_changes_between_hash_and_bytes_is_never_mixed(site: Site, server: ChunkedServer) -> None:
    server.bytes_per_second = 2 * PART
    url = site.web.serve("/changing.bin", DATA, etag='"one"')
    transfer_id = site.submit(url, server.url("changing.bin"), part_size=PART, on_source_change="restart")
    eventually(lambda: len(server.chunks) > 1, "it has begun")
    other = noise(len(DATA) + 1)[1:]

    site.web.serve("/changing.bin", other, etag='"two"')
    server.bytes_per_second = None
    site.fleet.wait(transfer_id)

    kept = {path.name[:32]: path.read_bytes() for path in server.folder.glob("*.bin")}
    assert kept[hashlib.md5(other).hexdigest()] == other  # noqa: S324  # the protocol's own


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, profile_up__category="reports") as fleet:
        yield fleet


def start(fleet: Fleet, server: ChunkedServer, data: bytes, **options: Any) -> tuple[Path, str]:
    source = fleet.folder / NAME
    source.write_bytes(data)
    options = {"part_size": 4 * PART, "destination_profile": "up", "retry": QUICK_RETRY, **options}
    return source, fleet.client.submit(str(source), server.url(), **options)


BIG = noise(40 * PART + 99)


def test_rc_58_a_killed_worker_costs_only_the_part_in_flight(fleet: Fleet, server: ChunkedServer) -> None:
    part = 16 * PART
    server.bytes_per_second = part
    killed = fleet.worker("killed")
    _, transfer_id = start(fleet, server, BIG, part_size=part)
    eventually(lambda: len(server.chunks) == 2 and server.chunks[1].file_bytes > 0, "the second part is on its way")

    killed.kill()
    fleet.worker("next")
    server.bytes_per_second = None
    done = fleet.wait(transfer_id)

    assert server.stored(NAME) == BIG
    cut = [form for form in server.chunks if not form.whole]
    assert len(cut) == 1
    # The form that was cut stored nothing, so its bytes are sent again, and no others.
    assert server.bytes_taken - cut[0].file_bytes == len(BIG)
    assert [int(form.fields["offset"]) for form in server.chunks if form.whole] == [0, part, 2 * part]
    assert all(form.fields["category"] == "reports" for form in server.chunks if form.whole)
    assert done.result["crc64nvme"]
    fleet.assert_nothing_is_left(transfer_id, deliveries_lost=True)


def test_rc_58_a_server_that_restarts_is_asked_what_it_has(fleet: Fleet, tmp_path: Path) -> None:
    fleet.worker("only")
    with ChunkedServer(tmp_path / "kept") as before:
        before.bytes_per_second = 8 * PART
        _, transfer_id = start(fleet, before, BIG)
        eventually(lambda: len(before.chunks) > 3, "some parts are there")
    with ChunkedServer(tmp_path / "kept", port=before.port) as after:
        fleet.wait(transfer_id)

        assert after.stored(NAME) == BIG
        assert after.prepares
        taken = sum(form.file_bytes for each in (before, after) for form in each.chunks if form.whole)
        assert taken == len(BIG)


def test_a_pause_stops_the_chunk_and_a_resume_goes_on_without_hashing_again(
    fleet: Fleet, server: ChunkedServer
) -> None:
    server.bytes_per_second = 8 * PART
    worker = fleet.worker("only")
    _, transfer_id = start(fleet, server, BIG, part_size=8 * PART)
    eventually(lambda: len(server.chunks) > 2, "some parts are there")

    fleet.client.pause(transfer_id)
    fleet.wait_state(transfer_id, State.PAUSED)
    eventually(lambda: not fleet.live_leases(transfer_id), "nothing is in flight")
    server.bytes_per_second = None
    fleet.client.resume(transfer_id)
    fleet.wait(transfer_id)

    assert server.stored(NAME) == BIG
    assert sum(form.file_bytes for form in server.chunks if form.whole) == len(BIG)
    assert len(worker.events("source_hashed")) == 1
    # To open it, to compare after the pause, and by the lane that goes on.
    assert len(server.prepares) == 3


def test_what_the_server_forgot_while_paused_is_sent_again(fleet: Fleet, server: ChunkedServer) -> None:
    server.bytes_per_second = 4 * PART
    fleet.worker("only")
    _, transfer_id = start(fleet, server, BIG)
    eventually(lambda: len(server.chunks) > 3, "some parts are there")
    fleet.client.pause(transfer_id)
    fleet.wait_state(transfer_id, State.PAUSED)
    eventually(lambda: not fleet.live_leases(transfer_id), "nothing is in flight")

    server.bytes_per_second = None
    server.hold(NAME, BIG, 5 * PART)
    fleet.client.resume(transfer_id)
    fleet.wait(transfer_id)

    assert server.stored(NAME) == BIG


def test_a_source_that_changes_after_it_was_hashed_fails_the_transfer(fleet: Fleet, server: ChunkedServer) -> None:
    server.bytes_per_second = 4 * PART
    fleet.worker("only")
    source, transfer_id = start(fleet, server, BIG)
    eventually(lambda: len(server.chunks) > 1, "some parts are there")

    source.write_bytes(noise(len(BIG) + 1)[1:])
    ended = fleet.wait_state(transfer_id, State.FAILED)

    assert ended.error["code"] == "source_changed"
    assert server.stored(NAME) != source.read_bytes()
