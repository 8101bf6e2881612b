"""Scripts and the Python that calls them belong together, also while the package is upgraded under a process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.fleet import CHECKOUT
from tests.servers.valkey import Valkey

PROCESS = """
import sys
from orchestrator.connection import connect
from orchestrator.ledger import Ledger
from orchestrator.settings import load_settings

settings = load_settings(redis_url=sys.argv[1])
with connect(settings) as redis:
    ledger = Ledger(redis, settings)
    print(ledger.__module__, flush=True)
    sys.stdin.readline()
    transfer_id = ledger.new_id("0" * 16)
    request = {"destination": "0" * 16, "spec": "{}", "direction": "copy", "priority": 0}
    print(ledger.submit(transfer_id, **request).outcome, ledger.record(transfer_id).state, flush=True)
"""


def test_a_process_uses_the_scripts_it_started_with_when_the_package_is_upgraded_under_it(
    shared_valkey: Valkey, tmp_path: Path
) -> None:
    for package in ("orchestrator", "providers"):
        shutil.copytree(CHECKOUT / package, tmp_path / package)
    command = [sys.executable, "-c", PROCESS, shared_valkey.url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "orchestrator.ledger\n"
        for script in (tmp_path / "orchestrator" / "lua").iterdir():
            script.write_text("return 'of another version'")

        said, _ = process.communicate("go on\n", timeout=60)

    assert said == "ok queued\n"
