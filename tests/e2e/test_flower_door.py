"""Who may look at Flower, what it keeps on disk, and that workers send events only while it runs."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from haulage.cli import main
from orchestrator.dispatch import make_app
from tests.e2e.engine_world import engine_world
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.flower_server import PASSWORD, USER, FlowerServer


@pytest.mark.parametrize(
    ("options", "env", "said"),
    [
        (["--no-auth", "--address", "0.0.0.0"], {}, "without a password only the loopback is served"),
        (["--no-auth", "--address", "::"], {}, "without a password only the loopback is served"),
        (["--no-auth", "--address", "example.org"], {}, "without a password only the loopback is served"),
        ([], {"HAULAGE_FLOWER_PASSWORD": ""}, "the password is empty"),
        (["--password-file", "/dev/null"], {}, "the password is empty"),
        (["--user", "a:b"], {}, "a name without a colon"),
    ],
)
def test_a_door_that_stands_open_by_mistake_is_refused(options: list[str], env: dict[str, str], said: str) -> None:
    env = {"HAULAGE_REDIS_URL": "redis://127.0.0.1:1/0", **env}

    done = CliRunner(env=env).invoke(main, ["flower", *options])

    assert done.exit_code == 2, done.output
    assert said in done.output


def test_a_file_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    """It is a pickle: reading it runs what it says."""
    (tmp_path / "rows.db").touch()
    (tmp_path / "rows.db").chmod(0o666)
    env = {"HAULAGE_REDIS_URL": "redis://127.0.0.1:1/0"}

    done = CliRunner(env=env).invoke(main, ["flower", "--persistent", str(tmp_path / "rows")])

    assert done.exit_code == 2, done.output
    assert "somebody else may write this file" in done.output


def test_a_password_is_made_up_and_rows_outlive_a_restart(tmp_path: Path) -> None:
    options = ["--url-prefix", "watch", "--persistent", str(tmp_path / "rows")]
    with Fleet(tmp_path, roots=str(tmp_path)) as fleet:
        fleet.worker("w")
        with FlowerServer(fleet, *options, password=None) as flower:
            made_up = re.search(rf"user {USER}, password (\S{{20}})", flower.said)
            assert made_up
            assert "/watch/tasks" in flower.said
            assert flower.ask("/tasks", password=PASSWORD)[0] == 401
            assert flower.ask("/tasks", password=made_up[1])[0] == 200
            flower.wait_watching(fleet)
            (tmp_path / "a").write_bytes(b"something")
            fleet.wait(fleet.client.submit(str(tmp_path / "a"), str(tmp_path / "b")))
            eventually(lambda: len(flower.rows(password=made_up[1])) == 3, "three rows")
            flower.stop()

        files = [each for each in tmp_path.iterdir() if each.name.startswith("rows")]
        assert files
        assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
        with FlowerServer(fleet, *options) as again:
            said = {row["name"]: row["result"] for row in again.rows().values()}
        assert said.keys() == {"haulage.prepare", "haulage.part[host]", "haulage.complete"}
        assert said["haulage.part[host]"].startswith("part 1/1 · ")
        assert said["haulage.part[host]"].endswith("file:testhost -> file:testhost")


def test_workers_send_no_events_of_tasks_once_flower_has_left(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.worker("w")
        with FlowerServer(fleet) as flower:
            flower.wait_watching(fleet)
            flower.stop()
        with make_app(fleet.settings) as app:
            (reply,) = app.control.disable_events(reply=True)
        assert "already disabled" in str(reply)


def test_without_a_redis_url_it_shows_the_engine_of_this_machine(tmp_path: Path) -> None:
    with engine_world(tmp_path / "engine", engine_linger_seconds=0.0) as world:
        with FlowerServer(world) as flower:
            flower.wait_worker()
            assert world.status().pid
            flower.stop()
        world.wait_gone()
