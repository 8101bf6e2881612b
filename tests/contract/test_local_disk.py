"""Full and read-only file systems, and folders without permission: each in a process and mount namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.contract import on_small_disk
from tests.servers.process import ServerMissing

SCENARIOS = [
    on_small_disk.reserving_more_than_there_is_fails_at_once_and_leaves_nothing,
    on_small_disk.a_full_disk_keeps_the_bytes_and_goes_on_once_there_is_room,
    on_small_disk.a_disk_without_inodes_is_full,
    on_small_disk.a_read_only_file_system_is_named_and_can_be_read,
    on_small_disk.a_mount_in_the_folders_place_has_not_our_upload,
]
PROJECT = Path(__file__).parents[2]


@cache
def new_namespace() -> list[str]:
    """The command that may mount where nobody else sees it: as any user, or at least as root. Raises ServerMissing."""
    for command in (["unshare", "-rm"], ["unshare", "-m"]):
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    raise ServerMissing("no mount namespace can be made here: run as root, or allow user namespaces (unshare -rm)")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_on_a_file_system_of_its_own(scenario: Callable[[Path], None], tmp_path: Path) -> None:
    done = _run(new_namespace(), scenario, tmp_path)

    assert done.returncode == 0, done.stderr


def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    done = _run([], on_small_disk.a_folder_without_permission_is_named, tmp_path)

    assert done.returncode == 0, done.stderr


def _run(prefix: list[str], scenario: Callable[[Path], None], folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [*prefix, sys.executable, "-W", "error", "-m", on_small_disk.__name__, scenario.__name__, str(folder)]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
