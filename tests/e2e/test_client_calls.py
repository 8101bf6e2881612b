"""The calls of a client on a fleet that works: outcomes, progress, early totals, and what a wait tells."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from haulage import (
    AsyncTransferClient,
    ClientClosed,
    State,
    TransferCancelled,
    TransferClient,
    TransferFailed,
    TransferNotFound,
    TransferRecord,
    Update,
)
from tests.e2e.fleet import eventually
from tests.e2e.shared import KIB, MIB, Site, noise

pytest_plugins = ["tests.e2e.calm"]

PATH = "/object.bin"
PART = 256 * KIB
DATA = noise(8 * PART)


@pytest.fixture
def user(site: Site) -> Any:
    """A client of the test's own, which it may close."""
    with TransferClient(site.fleet.settings) as made:
        yield made


def slowly(site: Site) -> str:
    """URL of an object whose parts take seconds each, once two have been sent."""
    site.web.serve(PATH, DATA)
    site.web.fault(PATH, method="GET", after=2, drip_seconds=0.02)
    return f"{site.web.base}{PATH}?quiet"


def test_an_upload_a_download_and_a_copy_end_with_their_result(site: Site, user: TransferClient) -> None:
    """RC-06, RC-34, BN-03: the result has what was stored, and exactly how many bytes."""
    source, back, key = site.file(DATA), site.folder / "back.bin", site.key()

    sent = user.wait(user.upload(source, site.store.url(key), destination_profile="store"))
    options = {"source_profile": "store", "destination_profile": "store"}
    copied = user.wait(user.copy(site.store.url(key), site.store.url(f"{key}.copy"), **options))
    fetched = user.wait(user.download(site.store.url(f"{key}.copy"), back, source_profile="store"))

    assert [each.direction for each in (sent, copied, fetched)] == ["upload", "copy", "download"]
    assert {each.result["size_bytes"] for each in (sent, copied, fetched)} == {len(DATA)}
    assert back.read_bytes() == site.store.read(key) == DATA
    assert fetched.destination == f"file://testhost{back}"
    assert (TransferRecord.of(sent).progress, TransferRecord.of(sent).status) == (1.0, 3)


def test_a_wait_ends_with_each_of_the_other_outcomes(site: Site, user: TransferClient) -> None:
    """RC-06, RC-34: a failure carries code, number and the server's status; neither it nor a cancel has a result."""
    site.web.serve("/forbidden.bin", DATA)
    site.web.fault("/forbidden.bin", status=403)

    lost = site.submit(f"{site.web.base}/forbidden.bin", site.folder / "x")
    with pytest.raises(TransferFailed) as caught:
        user.wait(lost)
    dropped = user.download(slowly(site), site.folder / "y", part_size=PART)
    user.cancel(dropped)
    with pytest.raises(TransferCancelled):
        user.wait(dropped)

    assert (caught.value.code, caught.value.number, caught.value.status) == ("forbidden", 109, 403)
    assert [user.get(each).result for each in (lost, dropped)] == [{}, {}]


def test_the_rate_of_a_moving_transfer_shows_when_it_is_looked_at_again(site: Site, user: TransferClient) -> None:
    sent = user.download(slowly(site), site.folder / "x", part_size=PART, parts_in_flight=2)
    site.fleet.wait_leased(sent, parts=2)
    assert user.get(sent).progress.bytes_per_second == 0.0

    eventually(lambda: user.get(sent).progress.bytes_per_second > 0, "a rate")

    progress = user.get(sent).progress
    assert progress.durable_bytes <= progress.received_bytes <= len(DATA)
    assert progress.bytes_per_second < 100 * MIB
    user.cancel(sent)


def test_observers_learn_the_total_and_where_it_resumes_before_the_first_part(site: Site, user: TransferClient) -> None:
    """RC-33, RC-08: the same id goes on; the first frame after a resume knows the total and what is stored."""
    sent = user.download(slowly(site), site.folder / "x", part_size=PART, parts_in_flight=1)
    eventually(lambda: user.get(sent).progress.parts_done >= 2, "two parts")
    user.pause(sent)
    eventually(lambda: not site.fleet.live_leases(sent), "all parts handed back")
    stored = user.get(sent).progress.durable_bytes
    heard: list[Update] = []
    user.on_progress(heard.append, sent, interval_seconds=0.05)

    user.resume(sent)
    eventually(lambda: any(each.event is None for each in heard), "a frame of progress")

    frame = next(each for each in heard if each.event is None)
    assert frame.transfer.progress.total_bytes == len(DATA)
    assert stored <= frame.transfer.progress.durable_bytes < len(DATA)
    user.cancel(sent)


def test_one_is_cancelled_while_another_goes_on(site: Site, user: TransferClient) -> None:
    """BN-13, RC-09: the partial file is gone, a second cancel is an error, and the other arrives."""
    other = site.submit(site.file(DATA), site.folder / "other.bin")
    sent = user.download(slowly(site), site.folder / "into" / "x", part_size=PART)
    site.fleet.wait_leased(sent)

    user.cancel(sent)

    with pytest.raises(TransferNotFound):
        user.cancel(sent)
    with pytest.raises(TransferCancelled):
        user.wait(sent)
    eventually(lambda: not any((site.folder / "into").iterdir()), "the partial file is removed")
    assert user.wait(other).state is State.COMPLETED


def test_a_callback_may_close_the_client(site: Site) -> None:
    """RC-11: it neither waits for itself nor loses what others submitted."""
    user = TransferClient(site.fleet.settings)
    closed = threading.Event()

    def close(update: Update) -> None:
        user.close()
        closed.set()

    sent = user.submit_paused(str(site.file(DATA)), str(site.folder / "x"))
    user.on_progress(close, sent)

    assert closed.wait(30)
    assert user.is_closed
    with pytest.raises(ClientClosed):
        user.resume(sent)
    assert site.client.resume(sent) is State.QUEUED
    site.fleet.wait(sent)


def test_a_wait_in_another_thread_ends_when_the_client_closes(site: Site) -> None:
    user = TransferClient(site.fleet.settings)
    sent = user.submit_paused(str(site.file(DATA)), str(site.folder / "x"))
    ended: list[type[BaseException]] = []

    def wait() -> None:
        try:
            user.wait(sent)
        except BaseException as exc:
            ended.append(type(exc))

    thread = threading.Thread(target=wait)
    thread.start()
    user.get(sent)

    user.close()

    thread.join(30)
    assert ended == [ClientClosed]
    site.client.cancel(sent)


def test_a_loop_awaits_transfers_that_really_move(site: Site) -> None:
    async def main() -> list[int]:
        async with AsyncTransferClient(site.fleet.settings) as user:
            sent = [await user.upload(site.file(DATA, f"{n}.bin"), site.folder / f"{n}.out") for n in range(5)]
            frames = [update async for update in user.progress(sent[0])]
            assert frames[-1].event is not None
            assert frames[-1].event.kind == "completed"
            ended = await asyncio.gather(*map(user.wait, sent))
            return [each.result["size_bytes"] for each in ended]

    assert asyncio.run(main()) == [len(DATA)] * 5
