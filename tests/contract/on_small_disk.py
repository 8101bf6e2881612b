"""Scenarios of ``test_local_disk.py`` that run in a mount namespace of their own: ``python -m ... NAME FOLDER``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from providers.base import ByteRange, Options
from providers.errors import DiskFull, IoFailed, UploadNotFound
from providers.local_upload import LocalUpload
from tests.contract.objects import cut, noise, plan, put, read_all
from tests.contract.test_local import DATA, PART, PARTS, begin, destination_at, source_at

MIB = 1 << 20
NOBODY = 65534


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def reserving_more_than_there_is_fails_at_once_and_leaves_nothing(folder: Path) -> None:
    mount(folder, "size=1m")
    for preallocate in ("auto", "full"):
        destination = destination_at(folder / "out", options=Options("t", preallocate=preallocate))
        with pytest.raises(DiskFull) as raised:
            destination.create_upload(plan(cut(2 * MIB, MIB)))
        assert raised.value.number == 121
        assert os.listdir(folder) == []


def a_full_disk_keeps_the_bytes_and_goes_on_once_there_is_room(folder: Path) -> None:
    mount(folder, "size=1m")
    (folder / "in the way").write_bytes(bytes(MIB // 2))
    data = noise(900_000)
    parts = cut(len(data), 300_000)
    destination = destination_at(folder / "out", options=Options("t", preallocate="sparse"))
    upload = destination.create_upload(plan(parts))
    first = put(destination, upload, parts[0], data)

    with pytest.raises(DiskFull):
        put(destination, upload, parts[1], data)

    assert not (folder / "out").exists()
    (folder / "in the way").unlink()
    destination.complete_upload(upload, [first, *(put(destination, upload, part, data) for part in parts[1:])])
    assert (folder / "out").read_bytes() == data


def a_disk_without_inodes_is_full(folder: Path) -> None:
    mount(folder, "nr_inodes=2")
    (folder / "only one").touch()

    with pytest.raises(DiskFull):
        destination_at(folder / "out").create_upload(plan(PARTS))


def a_read_only_file_system_is_named_and_can_be_read(folder: Path) -> None:
    mount(folder, "size=1m")
    (folder / "in").write_bytes(DATA)
    destination = destination_at(folder / "out")
    upload, receipts = begin(destination)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

    failing: list[Callable[[], object]] = [
        lambda: destination_at(folder / "new" / "out").create_upload(plan(PARTS)),
        lambda: destination_at(folder / "out").create_upload(plan(PARTS)),
        lambda: put(destination, upload, PARTS[0], DATA),
        lambda: destination.complete_upload(upload, receipts),
        lambda: destination.abort_upload(upload),
    ]
    for call in failing:
        with pytest.raises(IoFailed, match="the file system is mounted read-only") as raised:
            call()
        assert (raised.value.number, raised.value.code) == (105, "io")
    assert not (folder / "out").exists()
    source = source_at(folder / "in")
    assert read_all(source.read_range(ByteRange(0, PART), validator=source.stat().validator)) == DATA[:PART]


def a_mount_in_the_folders_place_has_not_our_upload(folder: Path) -> None:
    mount(folder, "size=1m")
    upload, receipts = begin(destination_at(folder / "out"))
    destination_at(folder / "out").complete_upload(upload, receipts)
    mount(folder, "size=1m")
    other = destination_at(folder / "out", options=Options("t"))
    other.complete_upload(*begin(other))
    assert (folder / "out").stat().st_ino == LocalUpload.decode(upload).inode

    with pytest.raises(UploadNotFound):
        destination_at(folder / "out").complete_upload(upload, receipts)


def a_folder_without_permission_is_named(folder: Path) -> None:
    (folder / "in").write_bytes(DATA)
    (folder / "in").chmod(0)
    folder.chmod(0o555)
    if not os.geteuid():  # root passes every permission
        os.setresuid(NOBODY, NOBODY, NOBODY)

    with pytest.raises(IoFailed, match="no permission") as raised:
        destination_at(folder / "out").create_upload(plan(PARTS))
    assert raised.value.number == 105
    with pytest.raises(IoFailed, match="no permission"):
        source_at(folder / "in").stat()


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
