"""A fleet whose workers are not all alike."""

from __future__ import annotations

from pathlib import Path

from orchestrator.states import State
from tests.e2e.fleet import Fleet
from tests.e2e.shared import MIB, noise, sha256
from tests.servers.process import wait_until


def test_a_worker_without_the_profile_leaves_the_preparation_to_the_others(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(noise(MIB))
    with Fleet(tmp_path, shared_roots=str(tmp_path)) as fleet:
        source, copy = str(tmp_path / "source"), str(tmp_path / "copy")
        transfer_id = fleet.client.submit_paused(source, copy, source_profile="disk")
        fleet.worker("unable", threads=1, pools="control")
        able = fleet.worker("able", threads=2, profile_disk__anything="x")
        wait_until(lambda: len(fleet.client.workers()) == 2, "both workers say that they live")

        fleet.client.resume(transfer_id)
        fleet.wait(transfer_id)

        assert sha256(tmp_path / "copy") == sha256(tmp_path / "source")
        assert "waiting" not in fleet.kinds(transfer_id)
        assert len(able.events("transfer_prepared")) == 1


def test_a_worker_without_the_profile_leaves_the_parts_to_the_others(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(noise(12 * MIB))
    with Fleet(tmp_path, shared_roots=str(tmp_path)) as fleet:
        able = fleet.worker("able", threads=2, profile_disk__anything="x")
        unable = fleet.worker("unable", threads=2, pools="data")

        transfer_id = fleet.client.submit(
            str(tmp_path / "source"),
            str(tmp_path / "copy"),
            source_profile="disk",
            part_size="1MiB",
            parts_in_flight=2,
        )
        fleet.wait(transfer_id)

        assert sha256(tmp_path / "copy") == sha256(tmp_path / "source")
        assert "waiting" not in fleet.kinds(transfer_id)
        assert len(able.events("part_stored")) == 12
        assert {each["code"] for each in unable.events("part_failed")} <= {"http_client_build_failed"}
        fleet.assert_nothing_is_left(transfer_id)


def test_a_secret_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(noise(MIB))
    with Fleet(tmp_path) as fleet:
        fleet.worker("w1", threads=2, profile_disk__anything_file=str(tmp_path / "secret"))
        transfer_id = fleet.client.submit(
            str(tmp_path / "source"), str(tmp_path / "copy"), source_profile="disk", retry={"wait_seconds": 0.2}
        )
        waiting = fleet.wait_state(transfer_id, State.WAITING)

        (tmp_path / "secret").write_text("x")
        fleet.wait(transfer_id)

        assert waiting.reason == "provider"
        assert "secret file of profile 'disk' cannot be read" in waiting.error["message"]
        assert sha256(tmp_path / "copy") == sha256(tmp_path / "source")
