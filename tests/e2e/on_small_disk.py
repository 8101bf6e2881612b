"""What ``test_files.py`` runs in a mount namespace of its own: ``python -m ... FOLDER``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import TransferFailed
from orchestrator.states import State
from tests.e2e.fleet import Fleet
from tests.e2e.shared import KIB, MIB, QUICK_RETRY, noise
from tests.servers.range_server import RangeServer


def mount(folder: Path, options: str) -> Path:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    return folder


def a_full_disk_makes_it_wait_and_it_goes_on_once_there_is_room(fleet: Fleet, folder: Path, preallocate: str) -> None:
    """Found out when the file is made (``auto``), or in mid-transfer (``none``)."""
    disk = mount(folder / preallocate, "size=1m")
    in_the_way, target, data = disk / "in the way", disk / "target.bin", noise(900_000)
    in_the_way.write_bytes(bytes(MIB // 2))
    with RangeServer() as web:
        url = web.serve("/x.bin", data)
        transfer_id = fleet.client.submit(
            url, str(target), part_size=100 * KIB, preallocate=preallocate, parts_in_flight=1, retry=QUICK_RETRY
        )
        waiting = fleet.wait_state(transfer_id, State.WAITING)
        assert (waiting.reason, waiting.error["number"], waiting.error["code"]) == ("disk_full", 121, "disk_full")
        assert not target.exists()
        assert waiting.progress.parts_done > 0 or preallocate == "auto"

        in_the_way.unlink()
        fleet.wait(transfer_id)
        ranges = [each.range for each in web.requests if each.method == "GET"]

    assert target.read_bytes() == data
    assert os.listdir(disk) == [target.name]
    assert ranges.count(f"bytes=0-{100 * KIB - 1}") == 1  # what is stored is kept


def a_read_only_disk_fails_it_with_a_clear_code(fleet: Fleet, folder: Path) -> None:
    disk = mount(folder / "read-only", "size=1m")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    source = folder / "source.bin"
    source.write_bytes(noise(1000))
    for target in (disk / "target.bin", disk / "new" / "target.bin"):
        with pytest.raises(TransferFailed, match="read-only") as raised:
            fleet.wait(fleet.client.submit(str(source), str(target)))
        assert (raised.value.number, raised.value.code) == (105, "io")
    assert os.listdir(disk) == []


def main(folder: Path) -> None:
    with Fleet(folder) as fleet:
        fleet.worker("one")
        a_full_disk_makes_it_wait_and_it_goes_on_once_there_is_room(fleet, folder, "auto")
        a_full_disk_makes_it_wait_and_it_goes_on_once_there_is_room(fleet, folder, "none")
        a_read_only_disk_fails_it_with_a_clear_code(fleet, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
