"""Each program under ``examples/`` does what its first line says, on a real fleet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.states import State
from tests.e2e.fleet import CHECKOUT, Fleet, eventually
from tests.servers.range_server import RangeServer
from tests.servers.s3_server import S3Server

DATA = os.urandom(3 << 20)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def web() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, far_s3: S3Server) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.env |= {f"HAULAGE_PROFILE_S3__{key.upper()}": value for key, value in far_s3.profile.items()}
        fleet.worker("worker")
        yield fleet


def run(fleet: Fleet, module: str, *arguments: object) -> str:
    """What the example prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{module}", *map(str, arguments)],
        cwd=CHECKOUT,
        env=fleet.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_submit_prints_each_event_and_how_the_object_was_verified(
    fleet: Fleet, web: RangeServer, tmp_path: Path
) -> None:
    said = run(fleet, "submit", web.serve("/submit.bin", DATA), tmp_path / "a.bin")

    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert [line.split()[0] for line in said.splitlines()][:3] == ["queued", "probed", "started"]
    assert f"{len(DATA)} bytes in 1 parts, verified: " in said


def test_many_sends_a_folder_and_a_second_run_sends_nothing(fleet: Fleet, tmp_path: Path, far_s3: S3Server) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.txt", "deep/b.txt"):
        (tmp_path / name).write_text(name)

    first, second = (run(fleet, "many", tmp_path, "s3://far/many") for _ in range(2))

    assert first == second == "2 of 2 files are there\n"
    stored = far_s3.client().get_object(Bucket="far", Key="many/deep/b.txt")["Body"].read()
    assert stored == b"deep/b.txt"


def test_asyncio_client_fetches_several_at_once_and_shows_how_far_they_are(
    fleet: Fleet, web: RangeServer, tmp_path: Path
) -> None:
    urls = [web.serve(f"/async{number}.bin", DATA[number:]) for number in range(3)]

    said = run(fleet, "asyncio_client", tmp_path, *urls)

    assert said.endswith("3 of 3 are there\n")
    assert "100%" in said
    assert [(tmp_path / f"async{number}.bin").read_bytes() == DATA[number:] for number in range(3)] == [True] * 3


def test_progress_shows_the_last_update_before_it_ends(fleet: Fleet, web: RangeServer, tmp_path: Path) -> None:
    said = run(fleet, "progress", web.serve("/progress.bin", DATA), tmp_path / "p.bin").splitlines()

    assert said[-1] == f"{len(DATA)} bytes, completed"
    assert said[-2] == f"[{'#' * 30}] 1/1 parts, completed: completed"


def test_paused_import_asks_nobody_for_what_it_does_not_resume(fleet: Fleet, web: RangeServer, tmp_path: Path) -> None:
    urls = [web.serve(f"/import-{word}.bin", DATA) for word in ("spring", "summer", "autumn")]
    (tmp_path / "list").write_text("\n".join(urls))

    said = run(fleet, "paused_import", tmp_path / "list", tmp_path, "-s")

    assert said.endswith("2 done, 1 paused\n")
    assert {path.name for path in tmp_path.glob("*.bin")} == {"import-spring.bin", "import-summer.bin"}
    assert not [request for request in web.requests if "autumn" in request.path]


def test_celery_app_is_told_of_the_end_by_its_own_task(fleet: Fleet, web: RangeServer, tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    command = [sys.executable, "-m", "celery", "-A", "examples.celery_app"]
    url = web.serve("/celery.bin", DATA)
    with log.open("w") as out:
        shop = subprocess.Popen(
            [*command, "worker", "-Q", "shop", "--pool", "solo"],
            cwd=CHECKOUT,
            env=fleet.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        fetch = [*command, "call", "shop.fetch", "--queue", "shop", "--args", f'["{url}", "{tmp_path}/c.bin"]']
        subprocess.run(fetch, cwd=CHECKOUT, env=fleet.environment, check=True, capture_output=True, timeout=60)

        eventually(lambda: f"celery.bin is here: {len(DATA)} bytes" in log.read_text(), "the application's own task")
    finally:
        shop.kill()
        shop.wait()

    assert (tmp_path / "c.bin").read_bytes() == DATA
    (newest, *_) = fleet.client.list(limit=1)
    assert newest.state is State.COMPLETED
