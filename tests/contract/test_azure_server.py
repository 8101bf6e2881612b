"""The Azure server keeps its promises, and is installed once, whoever asks at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobClient

from tests.servers.azurite import Azurite
from tests.servers.azurite_install import LOCK_FOLDER

CHECKOUT = Path(__file__).parents[2]
FAKE_NPM = """#!/bin/sh
echo "$@" >> "$COUNT"
mkdir -p node_modules/azurite/dist/src/blob
sleep 0.3
touch node_modules/azurite/dist/src/blob/main.js
exit "${NPM_EXIT:-0}"
"""
ASK = "from tests.servers.azurite_install import azurite_command; print(azurite_command()[1])"


def test_two_servers_run_at_once_and_know_only_their_own_keys(azurite: Azurite, tmp_path: Path) -> None:
    with Azurite(tmp_path) as other:
        other.make_container("things")
        other.blob("things", "a").upload_blob(b"other")

        assert other.read("things", "a") == b"other"
        stranger = {"account_name": other.account, "account_key": azurite.key}
        with (
            BlobClient(other.endpoint, "things", "a", credential=stranger, retry_total=0) as client,
            pytest.raises((ClientAuthenticationError, HttpResponseError)),
        ):
            client.get_blob_properties()
        with pytest.raises(ResourceNotFoundError):
            azurite.read("things", "a")


def test_a_sas_allows_what_it_names_until_it_ends(azurite: Azurite) -> None:
    azurite.blob("contract", "sas.bin").upload_blob(b"here", overwrite=True)
    url = azurite.blob("contract", "sas.bin").url

    with BlobClient.from_blob_url(url, credential=azurite.sas("contract", "r"), retry_total=0) as client:
        assert client.download_blob().readall() == b"here"
        with pytest.raises(HttpResponseError):
            client.upload_blob(b"there", overwrite=True)


def test_the_lock_file_names_no_registry_and_runs_no_script() -> None:
    lock = json.loads((LOCK_FOLDER / "package-lock.json").read_text())
    packages = {name: facts for name, facts in lock["packages"].items() if name}

    assert packages["node_modules/azurite"]["version"] == "3.37.0"
    assert all("resolved" not in facts and facts["integrity"] for facts in packages.values())


def fake_machine(tmp_path: Path, **more: str) -> dict[str, str]:
    """A PATH with a Node and an npm that install nothing but say that they were called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("node", "npm"):
        (tools / name).write_text(FAKE_NPM)
        (tools / name).chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COUNT": str(tmp_path / "n"), **more}


def test_processes_that_ask_at_once_share_one_installation(tmp_path: Path) -> None:
    environment = fake_machine(tmp_path)

    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = {each.communicate()[0].strip() for each in asking}

    assert [each.returncode for each in asking] == [0] * 4
    (script,) = answers
    assert Path(script).is_relative_to(tmp_path / "cache" / "haulage-tests")
    (call,) = (tmp_path / "n").read_text().splitlines()
    assert call.startswith("ci --ignore-scripts --omit=dev")


def test_an_installation_that_failed_is_a_missing_server_and_is_tried_again(tmp_path: Path) -> None:
    environment = fake_machine(tmp_path, NPM_EXIT="1")
    ask = [sys.executable, "-c", ASK]

    failed = subprocess.run(ask, env=environment, cwd=CHECKOUT, capture_output=True, text=True)
    mended = subprocess.run(ask, env={**environment, "NPM_EXIT": "0"}, cwd=CHECKOUT, capture_output=True, text=True)

    assert "ServerMissing: Azurite cannot be installed" in failed.stderr
    assert mended.returncode == 0
