"""Pause, resume, cancel: busy workers see it within a second, nothing done is done again, nothing is left behind."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
import redis.exceptions

from orchestrator.errors import InvalidState, TransferCancelled, TransferEnded
from orchestrator.states import State
from tests.e2e.fleet import Fleet
from tests.e2e.shared import BUCKET, KIB, MIB, QUICK_RETRY, STORE, CalmFleet, Site, noise, partial_files, sha256
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.nginx import Nginx
from tests.servers.process import wait_until

pytest_plugins = ["tests.e2e.calm"]

PART = 256 * KIB
DATA = noise(16 * PART)
MANY, SMALL_PART = 10_000, 64 * KIB
PATH = "/slow.bin"


def slow_transfer(site: Site, target: Path) -> str:
    """Four parts move, each for many seconds, after two were stored."""
    site.web.serve(PATH, DATA)
    site.web.fault(PATH, method="GET", after=2, drip_seconds=0.02)
    transfer_id = site.submit(f"{site.web.base}{PATH}?quiet", target, part_size=PART, parts_in_flight=4)
    site.fleet.wait_leased(transfer_id, parts=4)
    return transfer_id


@contextmanager
def deaf(site: Site) -> Iterator[None]:
    """Cut the channel that stops travel by, again and again."""
    over = threading.Event()

    def cut() -> None:
        client = site.fleet.redis.client()
        while not over.wait(0.02):
            with suppress(redis.exceptions.RedisError):
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def seconds_until_free(site: Site, transfer_id: str) -> float:
    """How long until no worker holds a part any more."""
    began = time.monotonic()
    wait_until(lambda: not site.fleet.live_leases(transfer_id), "all parts handed back")
    return time.monotonic() - began


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_silent_server_does_not_keep_a_part_from_stopping(site: Site, action: str) -> None:
    site.web.serve(PATH, DATA)
    site.web.fault(PATH, method="GET", after=1, stall=1000)
    transfer_id = site.submit(f"{site.web.base}{PATH}?silent", site.folder / "target.bin", part_size=PART)
    silent = "four parts that wait for a server which says nothing"
    wait_until(lambda: sum("silent" in each.path and each.bytes_sent > 0 for each in site.gets(PATH)) >= 4, silent)

    getattr(site.client, action)(transfer_id)
    took = seconds_until_free(site, transfer_id)

    assert took < 1.0
    assert site.client.history(transfer_id) == []


@pytest.mark.parametrize("hearing", [True, False], ids=["by pub/sub", "with pub/sub cut"])
@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_busy_workers_stop_within_a_second(site: Site, action: str, hearing: bool) -> None:
    """RC-07, RC-09."""
    target = site.folder / "target.bin"
    transfer_id = slow_transfer(site, target)

    with nullcontext() if hearing else deaf(site):
        getattr(site.client, action)(transfer_id)
        took = seconds_until_free(site, transfer_id)
    sent = sum(each.bytes_sent for each in site.gets(f"{PATH}"))

    assert took < 1.0
    assert site.client.get(transfer_id).state == (State.PAUSED if action == "pause" else State.CANCELLED)
    assert not target.exists()
    assert sent < len(DATA)
    if action == "pause":
        site.client.cancel(transfer_id)


def test_a_pause_is_one_event_and_the_server_is_left_in_peace(site: Site) -> None:
    """RC-07: one event, and no cancellation of the parts that stop."""
    transfer_id = slow_transfer(site, site.folder / "target.bin")

    site.client.pause(transfer_id)
    seconds_until_free(site, transfer_id)
    wait_until(lambda: not site.web._http.live, "the connections of a half-read part are closed")
    asked = len(site.web.requests)
    site.run(site.file(b"another"), site.folder / "another.bin")

    assert len(site.web.requests) == asked
    assert site.kinds(transfer_id).count("paused") == 1
    assert not {"failed", "cancelled"} & set(site.kinds(transfer_id))
    site.client.cancel(transfer_id)


def test_a_resumed_transfer_fetches_only_what_was_not_finished(site: Site) -> None:
    """RC-08: the same id goes on."""
    target = site.folder / "target.bin"
    transfer_id = slow_transfer(site, target)
    site.client.pause(transfer_id)
    seconds_until_free(site, transfer_id)
    paused = site.client.get(transfer_id)
    before = Counter(site.starts(PATH))
    site.web.faults.clear()

    site.client.resume(transfer_id)
    done = site.fleet.wait(transfer_id)

    assert sha256(target) == sha256(DATA)
    assert 2 <= paused.progress.parts_done < 16
    again = Counter(site.starts(PATH)) - before
    assert sum(again.values()) == 16 - paused.progress.parts_done
    assert max(again.values()) == 1
    assert done.progress.durable_bytes == len(DATA)
    assert partial_files(site.folder) == []


def test_paused_and_resumed_in_a_storm_it_arrives_once(site: Site) -> None:
    """RC-08: never two workers at one part."""
    site.web.throttle = 32 * KIB
    site.web.serve(PATH, DATA)
    target = site.folder / "target.bin"
    transfer_id = site.submit(site.web.base + PATH, target, part_size=PART, parts_in_flight=4)

    for _ in range(10):
        site.fleet.wait_state(transfer_id, State.PREPARING, State.RUNNING, State.QUEUED)
        site.client.pause(transfer_id)
        site.client.resume(transfer_id)
    site.web.throttle = None
    site.fleet.wait(transfer_id)

    assert sha256(target) == sha256(DATA)
    assert site.kinds(transfer_id).count("completed") == 1
    assert site.fleet.live_leases(transfer_id) == {}


def test_what_is_submitted_paused_touches_nothing_until_it_is_resumed(site: Site) -> None:
    """RC-05."""
    site.web.serve(PATH, DATA)
    folder = site.folder / "not yet"
    first, second = (site.client.submit_paused(f"{site.web.base}{PATH}", str(folder / name)) for name in "ab")
    site.run(site.file(b"a sign that the workers had time"), site.folder / "sign.bin")

    assert site.web.requests == []
    assert not folder.exists()
    assert site.client.get(first).state is State.PAUSED
    assert site.client.get(first).progress.durable_bytes == 0
    assert site.kinds(first) == ["paused"]

    site.client.resume(second)
    site.fleet.wait(second)

    assert os.listdir(folder) == ["b"]
    assert site.client.get(first).state is State.PAUSED
    site.client.cancel(first)


def test_cancel_removes_the_partial_file(site: Site) -> None:
    """BN-13."""
    transfer_id = slow_transfer(site, site.folder / "target.bin")
    assert len(partial_files(site.folder)) == 1

    site.client.cancel(transfer_id)
    with pytest.raises(TransferCancelled) as raised:
        site.fleet.wait(transfer_id)

    assert raised.value.number == 120
    assert partial_files(site.folder) == []
    assert site.kinds(transfer_id)[-1] == "cancelled"
    assert site.kinds(transfer_id).count("cancelled") == 1
    assert transfer_id not in site.fleet.ledger.sessions()


def test_cancel_keeps_the_partial_file_if_asked_to(site: Site) -> None:
    site.web.serve(PATH, DATA)
    site.web.fault(PATH, method="GET", after=2, drip_seconds=0.02)
    transfer_id = site.submit(site.web.base + PATH, site.folder / "t.bin", part_size=PART, keep_partial=True)
    site.fleet.wait_leased(transfer_id)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done == 2, "two parts are stored")

    site.client.cancel(transfer_id)
    with pytest.raises(TransferCancelled):
        site.fleet.wait(transfer_id)
    seconds_until_free(site, transfer_id)

    (partial,) = partial_files(site.folder)
    content = (site.folder / partial).read_bytes()
    whole = [at for at in range(0, len(DATA), PART) if content[at : at + PART] == DATA[at : at + PART]]
    assert len(whole) >= 2


def slow_upload(fleet: Fleet, proxied: LoggingProxy, folder: Path, key: str, **options: object) -> str:
    source = folder / "up.bin"
    source.write_bytes(bytes(20 * MIB))
    proxied.bytes_per_second = MIB
    transfer_id = fleet.client.submit(
        str(source), f"s3://{BUCKET}/{key}", destination_profile=STORE, part_size=16 * MIB, retry=QUICK_RETRY, **options
    )
    fleet.wait_leased(transfer_id)
    return transfer_id


def test_cancel_aborts_the_upload(
    tmp_path: Path, calm_fleet: CalmFleet, proxied_fleet: Fleet, proxied: LoggingProxy
) -> None:
    transfer_id = slow_upload(proxied_fleet, proxied, tmp_path, "cancelled.bin")
    assert calm_fleet.store.uploads("cancelled.bin") == 1

    began = time.monotonic()
    proxied_fleet.client.cancel(transfer_id)
    wait_until(lambda: not proxied_fleet.live_leases(transfer_id), "all parts handed back")
    took = time.monotonic() - began
    proxied.bytes_per_second = None
    with pytest.raises(TransferCancelled):
        proxied_fleet.wait(transfer_id)

    assert took < 1.0
    assert calm_fleet.store.uploads("cancelled.bin") == 0
    assert not calm_fleet.store.exists("cancelled.bin")
    assert len(proxied.requests("DELETE", "cancelled.bin")) >= 1


def test_cancel_keeps_the_upload_if_asked_to(
    tmp_path: Path, calm_fleet: CalmFleet, proxied_fleet: Fleet, proxied: LoggingProxy
) -> None:
    transfer_id = slow_upload(proxied_fleet, proxied, tmp_path, "kept.bin", keep_partial=True)

    proxied_fleet.client.cancel(transfer_id)
    proxied.bytes_per_second = None
    with pytest.raises(TransferCancelled):
        proxied_fleet.wait(transfer_id)
    wait_until(lambda: not proxied_fleet.live_leases(transfer_id), "all parts handed back")

    assert calm_fleet.store.uploads("kept.bin") == 1
    assert proxied.requests("DELETE", "kept.bin") == []


def test_an_abort_that_fails_still_ends_in_cancelled_and_is_tried_again(
    tmp_path: Path, calm_fleet: CalmFleet, proxied_fleet: Fleet, proxied: LoggingProxy
) -> None:
    """RC-09."""
    transfer_id = slow_upload(proxied_fleet, proxied, tmp_path, "stubborn.bin")
    proxied.answer("DELETE", "stubborn.bin", status=403)

    proxied_fleet.client.cancel(transfer_id)
    proxied.bytes_per_second = None
    with pytest.raises(TransferCancelled):
        proxied_fleet.wait(transfer_id)

    assert proxied_fleet.client.get(transfer_id).state is State.CANCELLED
    wait_until(lambda: calm_fleet.store.uploads("stubborn.bin") == 0, "the upload is gone")
    wait_until(lambda: transfer_id not in proxied_fleet.ledger.sessions(), "and forgotten")
    assert proxied_fleet.kinds(transfer_id).count("cancelled") == 1


def test_a_failed_or_paused_transfer_can_be_cancelled_and_leaves_nothing(site: Site) -> None:
    site.web.serve(PATH, DATA)
    site.web.fault(PATH, method="GET", after=2, status=403)
    target = site.folder / "target.bin"
    failed = site.submit(site.web.base + PATH, target, part_size=PART, parts_in_flight=1)
    site.fleet.wait_state(failed, State.FAILED)
    assert len(partial_files(site.folder)) == 1

    site.client.cancel(failed)
    with pytest.raises(TransferCancelled):
        site.fleet.wait(failed)

    assert partial_files(site.folder) == []


@pytest.mark.parametrize(
    ("state", "action", "error"),
    [
        (State.RUNNING, "resume", InvalidState),
        (State.RUNNING, "retry", InvalidState),
        (State.PAUSED, "retry", InvalidState),
        (State.CANCELLED, "pause", TransferEnded),
        (State.CANCELLED, "resume", TransferEnded),
        (State.CANCELLED, "cancel", TransferEnded),
        (State.COMPLETED, "pause", TransferEnded),
        (State.COMPLETED, "cancel", TransferEnded),
        (State.COMPLETED, "retry", TransferEnded),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_what_makes_no_sense_in_a_state_is_refused_and_changes_nothing(
    site: Site, state: State, action: str, error: type[Exception]
) -> None:
    """RC-08: 117 unless paused; RC-09: 108 once it has ended."""
    transfer_id = BRINGING_TO[state](site)

    with pytest.raises(error):
        getattr(site.client, action)(transfer_id)

    assert site.client.get(transfer_id).state is state
    if not state.final:
        site.client.cancel(transfer_id)


def _running(site: Site) -> str:
    return slow_transfer(site, site.folder / "target.bin")


def _paused(site: Site) -> str:
    return site.client.submit_paused(str(site.file(b"x")), str(site.folder / "target.bin"))


def _cancelled(site: Site) -> str:
    transfer_id = _paused(site)
    site.client.cancel(transfer_id)
    return transfer_id


def _completed(site: Site) -> str:
    return site.run(site.file(b"x"), site.folder / "target.bin").transfer_id


BRINGING_TO: dict[State, Callable[[Site], str]] = {
    State.RUNNING: _running,
    State.PAUSED: _paused,
    State.CANCELLED: _cancelled,
    State.COMPLETED: _completed,
}


def test_pausing_twice_is_pausing_once(site: Site) -> None:
    transfer_id = slow_transfer(site, site.folder / "target.bin")

    assert site.client.pause(transfer_id) is State.PAUSED
    assert site.client.pause(transfer_id) is State.PAUSED

    assert site.kinds(transfer_id).count("paused") == 1
    site.client.cancel(transfer_id)


@pytest.mark.timeout(300)  # 640 MiB through 10,000 requests: half a minute, unless the machine does much else
def test_ten_thousand_parts_arrive_whole_and_one_part_does_not_wait_behind_them(site: Site) -> None:
    big = site.folder / "www" / "big.bin"
    with Nginx(big.parent) as nginx, big.open("wb") as file:
        for number in range(MANY):  # sparse: each part differs, and little is written
            file.seek(number * SMALL_PART)
            file.write(number.to_bytes(8, "big"))
        file.truncate(MANY * SMALL_PART - 5)
        small = site.file(noise(SMALL_PART), "www/small.bin")
        target = site.folder / "target.bin"
        transfer_id = site.submit(nginx.url("big.bin"), target, part_size=SMALL_PART)
        wait_until(lambda: site.client.get(transfer_id).progress.parts_done > 0, "the first part is stored")

        began = time.monotonic()
        site.run(nginx.url("small.bin"), site.folder / "small.bin")
        took = time.monotonic() - began
        left = MANY - site.client.get(transfer_id).progress.parts_done
        done = site.fleet.wait(transfer_id, seconds=240)
        asked = [each.range for each in nginx.requests() if each.method == "GET" and each.path == "/big.bin"]

    assert took < 2.0
    assert left > MANY // 2
    assert sha256(site.folder / "small.bin") == sha256(small)
    assert sha256(target) == sha256(big)
    assert done.result["parts"] == MANY
    assert len(asked) == len(set(asked)) == MANY
    target.unlink()
    big.unlink()
