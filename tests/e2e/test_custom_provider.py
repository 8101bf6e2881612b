"""The example of a protocol of one's own: installed as a package, it is found and a file goes through it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.fleet import CHECKOUT, Fleet
from tests.e2e.shared import MIB, noise

UV = Path(sys.executable).with_name("uv")
DATA = noise(3 * MIB + 5)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the example as an installed package, with its entry point."""
    folder = tmp_path_factory.mktemp("custom")
    shutil.copytree(CHECKOUT / "examples/custom_provider", folder / "source")
    install = [UV, "pip", "install", "--python", sys.executable, "--no-deps", "--no-build-isolation"]
    install += ["--offline", "--target", folder / "site", folder / "source"]
    done = subprocess.run([*map(str, install)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def run(fleet: Fleet, *words: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "haulage", *map(str, words)]
    return subprocess.run(argv, env=fleet.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def test_a_file_goes_through_the_example_once_it_is_installed(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.bin").write_bytes(DATA)
    (tmp_path / "vaults").mkdir()
    words = ["submit", tmp_path / "in.bin", "vault://main/a b.bin", "--part-size", "1MiB", "--wait", "--json"]
    with Fleet(tmp_path, profile_vault__folder=tmp_path / "vaults") as fleet:
        unknown = run(fleet, *words)
        monkeypatch.setenv("PYTHONPATH", str(installed))
        fleet.worker("only")

        done = run(fleet, *words)
        again = run(fleet, *words, "--on-exists", "fail")

    assert unknown.returncode != 0
    assert "'vault:' is refused" in unknown.stderr
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "completed"
    assert again.returncode == 1
    assert "destination_exists" in again.stdout + again.stderr
    with closing(sqlite3.connect(tmp_path / "vaults/main.db")) as vault:
        assert vault.execute("SELECT key, visible, data FROM objects").fetchall() == [("a b.bin", 1, DATA)]
