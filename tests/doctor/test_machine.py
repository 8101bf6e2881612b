"""What ``haulage doctor`` says of a machine: its limits, its disks, its extras."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from haulage.doctor import machine
from tests.contract.test_local_disk import new_namespace
from tests.doctor.ask import doctor
from tests.e2e.fleet import CHECKOUT

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {soft}))
sys.argv = ["haulage", "doctor", "--json", "--only", "machine"]
import haulage.__main__
haulage.__main__.main()
"""


def test_this_machine_is_fit() -> None:
    answer = doctor({}, "--only", "machine")

    assert answer.code == 0
    assert {"open_files", "temporary_space", "extras"} <= answer.checks.keys()


@pytest.mark.parametrize(("soft", "status", "code"), [(200, "fail", 1), (512, "warn", 0)])
def test_a_low_limit_on_open_files_is_named(soft: int, status: str, code: int) -> None:
    command = [sys.executable, "-c", LIMITED.format(soft=soft)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}

    assert done.returncode == code, done.stderr
    assert rows["open_files"]["status"] == status
    assert "LimitNOFILE" in rows["open_files"]["try_this"]


@pytest.mark.parametrize(("size", "status"), [("16m", "fail"), ("512m", "warn")])
def test_a_disk_that_is_nearly_full_is_named(tmp_path: Path, size: str, status: str) -> None:
    script = f"mount -t tmpfs -o size={size} tmpfs {tmp_path} && TMPDIR={tmp_path} "
    script += f"{sys.executable} -m haulage doctor --json --only machine"
    command = [*new_namespace(), "sh", "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}

    assert rows["temporary_space"]["status"] == status, done.stderr
    assert str(tmp_path) in rows["temporary_space"]["message"]
    assert "TMPDIR" in rows["temporary_space"]["try_this"]


def test_a_folder_that_is_not_there_yet_is_judged_by_the_disk_it_would_be_on(tmp_path: Path) -> None:
    assert machine.disk_space("engine_space", tmp_path / "not" / "yet").status == "ok"


def test_extras_that_the_settings_need_are_asked_for() -> None:
    light = machine.extras(installed=lambda module: module == "boto3")
    without_s3 = machine.extras(wanted=["s3"], installed=lambda module: module != "boto3")
    without_flower = machine.extras(installed=lambda module: module != "flower")

    assert (light.status, without_s3.status, without_flower.status) == ("warn", "warn", "ok")
    assert "haulage[worker]" in light.try_this
    assert "haulage[s3]" in without_s3.try_this
    assert "not: flower" in without_flower.message
