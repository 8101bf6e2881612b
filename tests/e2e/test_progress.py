"""Events and callbacks of real transfers: what an application sees while bytes move (RC-31 to RC-36, BN-05, BN-09)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from haulage import TransferClient, Update
from orchestrator.states import State
from tests.e2e.fleet import eventually
from tests.e2e.shared import KIB, Site, noise
from tests.integration.event_paths import check_path

pytest_plugins = ["tests.e2e.calm"]

PART, PARTS = 64 * KIB, 6
DATA = noise(PARTS * PART)


@pytest.fixture
def client(site: Site) -> Iterator[TransferClient]:
    """One of its own, whose listeners end with the test."""
    with TransferClient(site.fleet.settings) as client:
        yield client


def test_callbacks_follow_a_transfer_through_pause_and_resume_to_its_end(
    site: Site, client: TransferClient, tmp_path: Path
) -> None:
    site.web.serve("/a.bin", DATA)
    site.web.throttle = 48 * KIB
    mine, everybody = list[Update](), list[Update]()
    client.on_progress(everybody.append)
    transfer_id = client.submit(
        f"{site.web.base}/a.bin?sig=cAnArY", str(tmp_path / "a"), part_size=PART, parts_in_flight=2
    )
    client.on_progress(mine.append, transfer_id, interval_seconds=0.05)
    eventually(lambda: mine != [] and mine[-1].transfer.progress.durable_bytes > 0, "a part is durable")
    client.pause(transfer_id)
    eventually(lambda: not site.fleet.live_leases(transfer_id), "the parts are handed back")
    offset = client.get(transfer_id).progress.durable_bytes
    site.web.throttle = None
    client.resume(transfer_id)
    site.fleet.wait(transfer_id)
    client.close()

    kinds = [each.event.kind for each in mine if each.event]
    frames = [each.transfer.progress for each in mine if each.event is None]
    moving = [each for each in frames if each.received_bytes > each.durable_bytes]
    assert kinds[:3] + kinds[-1:] == ["queued", "probed", "started", "completed"]
    assert {"paused", "resumed"} <= set(kinds)
    check_path(kinds, State.COMPLETED)
    assert {each.transfer.transfer_id for each in everybody} >= {transfer_id}
    assert [each.event.kind for each in everybody if each.event and each.event.transfer_id == transfer_id] == kinds
    assert [each.durable_bytes for each in frames] == sorted(each.durable_bytes for each in frames)
    assert {each.total_bytes for each in frames} == {len(DATA)}
    assert moving
    assert any(each.smoothed_bytes_per_second > 0 and (each.eta_seconds or 0) > 0 for each in moving)
    assert frames[-1].ratio == 1.0
    probed, *_, started = [each.event.data for each in mine if each.event and each.event.kind in ("probed", "started")]
    assert (probed["size_bytes"], probed["validator"], probed["ranges"]) == (len(DATA), "etag", True)
    assert (started["done_bytes"], started["size_bytes"]) == (offset, len(DATA))
    assert "cAnArY" not in str(mine)


def test_events_of_all_transfers_can_be_followed_while_they_run(
    site: Site, client: TransferClient, tmp_path: Path
) -> None:
    source = site.file(b"abc")
    events = client.events(None, after="$", kinds=["queued", "completed"])

    ids = [site.submit(source, tmp_path / name) for name in ("x", "y")]

    seen: set[tuple[str, str]] = set()
    while not {(each, "completed") for each in ids} <= seen:
        event = next(events)
        assert event.kind in ("queued", "completed")
        seen.add((event.transfer_id, event.kind))
    assert {(each, "queued") for each in ids} <= seen
