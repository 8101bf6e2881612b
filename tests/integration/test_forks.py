"""A client that was made before a fork works on both sides, each with connections of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis

from tests.servers.valkey import Valkey


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing", "billiard"])
def test_both_sides_of_a_fork_use_the_client_at_once(how: str, client: redis.Redis, shared_valkey: Valkey) -> None:
    argv = [sys.executable, "-m", "tests.integration.forking_app", shared_valkey.url, how]

    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    assert "error" not in seen["child"], seen["child"]["error"]
    parent, child = set(seen["parent"]["sent"]), set(seen["child"]["sent"])
    assert (len(parent), len(child), parent & child) == (40, 40, set())
    assert (seen["parent"]["sides"], seen["child"]["sides"]) == (["parent"], ["child"])
    assert seen["parent"]["ledger"] == seen["ledger"] != seen["child"]["ledger"]
    # The child cancels at its end what it submitted itself, and nothing of its parent.
    assert set(seen["child"]["mine"]) == child
    assert {seen["states"][each] for each in child} == {"cancelled"}
    assert "cancelled" not in {seen["states"][each] for each in [seen["first"], *parent]}
    assert seen["child"]["removed"]
