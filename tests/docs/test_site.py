"""The documentation site builds, and nothing in it is worth a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_the_site_builds_without_a_warning_and_names_what_it_is_generated_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "docs", str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    for page, word in {
        "api": "submit_paused",
        "cli": "haulage submit",
        "settings": "HAULAGE_LEASE_SECONDS",
        "options": "idempotency_key",
        "errors": "checksum_mismatch",
        "events": "retrying",
    }.items():
        assert word in (tmp_path / f"reference/{page}.html").read_text(), page
