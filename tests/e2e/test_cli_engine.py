"""The command line on one machine: no Redis is named, nothing was set up, and everything may be killed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_terminal import CTRL_C, HAULAGE, Terminal
from tests.e2e.engine_world import EngineWorld, engine_world
from tests.e2e.fleet import CHECKOUT
from tests.e2e.shared import MIB, sha256
from tests.servers.range_server import Fault, Pattern, RangeServer

SIZE = 24 * MIB
IN_FLIGHT = 4
BIG = Pattern(SIZE)
PARTS = ("--part-size", "1MiB", "--parts-in-flight", str(IN_FLIGHT))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    with engine_world(tmp_path / "engine") as world:
        yield world


@pytest.fixture
def web() -> Iterator[RangeServer]:
    with RangeServer(throttle=MIB) as server:
        yield server


def held_url(web: RangeServer) -> tuple[str, Fault]:
    """About a third comes at once, and the rest by the byte until the fault is told to ``let_go``."""
    return web.serve("/big.bin", BIG), web.fault("/big.bin", method="GET", after=9, drip_seconds=0.02)


def sent(web: RangeServer) -> int:
    return sum(each.bytes_sent for each in web.requests)


def copying(world: EngineWorld, url: str, folder: Path) -> Terminal:
    return Terminal(["cp", url, "big.bin", *PARTS], world.environment, cwd=folder)


def run(world: EngineWorld, *argv: str | Path) -> str:
    done = subprocess.run(
        [*HAULAGE, *map(str, argv)],
        env=world.environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stored(text: str) -> float:
    """MiB with receipts, as the bar says."""
    found = re.search(r"([\d.]+) MiB of 24\.0 MiB stored", text)
    return float(found[1]) if found else 0.0


def test_a_copy_killed_together_with_its_engine_goes_on_when_it_is_run_again(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    url, held = held_url(web)
    with copying(world, url, tmp_path) as terminal:
        terminal.wait_for(lambda text: stored(text) >= 7, "what comes at once is stored")
        terminal.process.kill()
        world.kill_all()
    before = sent(web)
    held.let_go()

    with copying(world, url, tmp_path) as terminal:
        assert terminal.wait_end() == 0, terminal.text

    assert terminal.lines_with("going on with s0-")
    assert sha256(tmp_path / "big.bin") == BIG.sha256()
    assert before < SIZE
    assert sent(web) <= SIZE + (IN_FLIGHT + 2) * MIB, "what was in flight, and two looks at the source"


def test_ctrl_c_on_the_engine_pauses_and_resume_finishes_in_the_background(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    url, held = held_url(web)
    with copying(world, url, tmp_path) as terminal:
        terminal.wait_for(lambda text: stored(text) >= 2, "something is stored")
        terminal.send(CTRL_C)
        assert terminal.wait_end() == 1
    (row,) = [json.loads(line) for line in run(world, "ls", "--json").splitlines()]
    assert row["state"] == "paused"

    held.let_go()
    assert run(world, "resume", row["transfer_id"]) == f"{row['transfer_id']} queued"
    run(world, "wait", row["transfer_id"])

    assert sha256(tmp_path / "big.bin") == BIG.sha256()


def test_settings_that_come_too_late_for_what_moves_are_named_without_values(
    world: EngineWorld, web: RangeServer, tmp_path: Path
) -> None:
    url, held = held_url(web)
    with copying(world, url, tmp_path) as terminal:
        terminal.wait_for(lambda text: stored(text) >= 2, "something is stored")
        env = {**world.environment, "HAULAGE_PROFILE_LATE__ACCESS_KEY": "hidden"}
        (tmp_path / "small").write_bytes(b"x")
        with Terminal(["cp", "small", "other"], env, columns=160, cwd=tmp_path) as late:
            assert late.wait_end() == 0
        held.let_go()
        assert terminal.wait_end() == 0

    assert late.lines_with("older settings (HAULAGE_PROFILE_LATE__ACCESS_KEY): haulage engine stop, then again")
    assert "hidden" not in late.text


def test_what_is_submitted_goes_on_after_the_command_and_its_engine_leaves_then(
    web: RangeServer, tmp_path: Path
) -> None:
    web.throttle = 4 * MIB
    with engine_world(tmp_path / "brief", engine_linger_seconds=0.5) as world:
        run(world, "submit", web.serve("/big.bin", BIG), tmp_path / "big.bin", *PARTS)
        world.wait_gone()

    assert sha256(tmp_path / "big.bin") == BIG.sha256()
