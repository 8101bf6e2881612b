"""Flower on a real fleet, looked at with a real browser: a row for every part, and no secret on any page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from orchestrator.states import State
from tests.e2e.fleet import CHECKOUT, Fleet, eventually
from tests.e2e.flower_server import PASSWORD, USER, FlowerServer
from tests.e2e.shared import KIB, MIB, QUICK_RETRY
from tests.servers.range_server import Pattern, RangeServer
from tests.servers.s3_server import S3Server
from tests.servers.valkey import Valkey

PARTS = 24
REDIS_PASSWORD = "canary-redis-password-b7"
SIGNATURE, BEARER, HEADER = "canary-signature-5f1c", "canary-bearer-77ab", "canary-header-e00d"
SIZE_BYTES = PARTS * 5 * MIB
IMAGE = CHECKOUT / "docs" / "images" / "flower.png"


@dataclass
class Scene:
    """A fleet that has moved one object in 24 parts and failed with another, and the Flower that watched."""

    flower: FlowerServer
    done: str
    failed: str
    secret_key: str


@contextmanager
def locked_fleet(folder: Path, **settings: object) -> Iterator[Fleet]:
    """A fleet whose Redis has a password."""
    fleet = Fleet(folder, host="moon", **settings)
    fleet.redis = Valkey(folder / "locked", extra=("--requirepass", REDIS_PASSWORD))
    fleet.env["HAULAGE_REDIS_URL"] = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{fleet.redis.port}/0"
    with fleet:
        yield fleet


@pytest.fixture(scope="module")
def scene(near_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    profile = {f"profile_near__{name}": value for name, value in near_s3.profile.items()}
    with (
        RangeServer() as web,
        locked_fleet(tmp_path_factory.mktemp("flower"), profile_private__bearer=BEARER, **profile) as fleet,
        FlowerServer(fleet) as flower,
    ):
        fleet.worker("data1")
        flower.wait_watching(fleet)
        web.serve("/private/moon.iso", Pattern(SIZE_BYTES))
        web.serve("/private/dark.iso", Pattern(300 * KIB))
        web.fault("/private/dark.iso", status=403)
        options: dict[str, Any] = {
            "source_profile": "private",
            "destination_profile": "near",
            "headers": {"X-Token": HEADER},
            "parts_in_flight": 3,
            "part_size": 5 * MIB,
            "retry": QUICK_RETRY,
        }
        done, failed = (
            fleet.client.submit(
                f"{web.base}/private/{name}.iso?X-Signature={SIGNATURE}", f"s3://near/{name}.iso", **options
            )
            for name in ("moon", "dark")
        )
        fleet.wait(done)
        fleet.wait_state(failed, State.FAILED)
        eventually(lambda: all(each["state"] == "SUCCESS" for each in flower.rows().values()), "Flower has all rows")
        yield Scene(flower, done, failed, near_s3.secret_key)


@pytest.fixture
def page(scene: Scene) -> Iterator[Any]:
    """A browser that shows the tasks."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not on the PATH")
        pytest.skip("chromium is not on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser.new_page(
                viewport={"width": 1400, "height": 900},
                http_credentials={"username": USER, "password": PASSWORD},
            )
        finally:
            browser.close()


def test_every_part_is_a_row_that_says_which_part_it_was(scene: Scene, page: Any, tmp_path: Path) -> None:
    page.goto(f"{scene.flower.base}/tasks")
    page.select_option("#tasks-table_length select", "50")
    page.wait_for_function("() => document.querySelectorAll('#tasks-table tbody tr').length > 24")

    rows = page.locator("#tasks-table tbody tr").all_inner_texts()

    moved = [row for row in rows if scene.done in row and "haulage.part[data]" in row]
    for number in range(1, PARTS + 1):
        mine = [row for row in moved if f"part {number}/{PARTS} " in row]
        assert len(mine) == 1, mine
        assert re.search(r"5\.0 MiB at [\d.]+ MiB/s · data · 127\.0\.0\.1:\d+ -> s3:near", mine[0]), mine
        assert "data1@moon" in mine[0]
    idle = [row for row in moved if f"/{PARTS} " not in row]
    assert all("nothing left" in row for row in idle), idle
    target = tmp_path / "flower.png"
    page.screenshot(path=target, full_page=True)
    assert target.stat().st_size > 10_000
    if os.environ.get("WRITE_IMAGES"):
        IMAGE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, IMAGE)


def test_the_other_steps_say_what_came_of_them(scene: Scene) -> None:
    said = {(row["name"], row["args"]): row["result"] for row in scene.flower.rows().values()}

    assert said["haulage.prepare", scene.done] == f"planned {PARTS} parts · round 1 of 3 lanes"
    complete = said["haulage.complete", f"{scene.done} round 1"]
    assert complete.startswith(f"completed · {PARTS} parts, {SIZE_BYTES} bytes, verified by")
    assert said["haulage.prepare", scene.failed] == "forbidden (fail)"
    assert {row["kwargs"] for row in scene.flower.rows().values()} == {"{}"}


def test_while_a_part_is_on_its_way_its_row_says_so(scene: Scene) -> None:
    """Flower counts the events it got: one of ours for each part, before the event that ends the task."""
    counted = scene.flower.get("/metrics", password=None)

    found = re.search(r'flower_events_total\{task="haulage.part\[data\]",type="task-progress",.*\} ([\d.]+)', counted)
    assert found, counted
    assert float(found[1]) == PARTS


def test_no_page_holds_a_secret(scene: Scene) -> None:
    worker = quote("data1@moon", safe="")
    pages = ["/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics", "/healthcheck", f"/worker/{worker}"]
    pages += ["/api/workers?refresh=1", "/api/tasks?limit=1000", "/api/task/types", "/api/queues/length"]
    rows = scene.flower.rows()
    pages += [each for uuid in rows for each in (f"/task/{uuid}", f"/api/task/info/{uuid}")]
    seen = {path: scene.flower.get(path) for path in pages}
    # There are no results; what Flower says instead is looked at too.
    seen |= {path: scene.flower.ask(path)[1] for path in (f"/api/task/result/{uuid}" for uuid in rows)}
    seen["log"] = scene.flower.said

    assert "worker_prefetch_multiplier" in seen[f"/worker/{worker}"]  # the page shows the worker's configuration
    assert len(rows) > PARTS
    for path, text in seen.items():
        for secret in (SIGNATURE, BEARER, HEADER, REDIS_PASSWORD, PASSWORD, scene.secret_key):
            assert secret not in text, path
        assert "/private/" not in text, path


def test_without_the_password_only_counts_are_shown(scene: Scene) -> None:
    for path in ("/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers"):
        for password in (None, "wrong"):
            assert scene.flower.ask(path, password=password)[0] == 401, path
    assert scene.flower.get("/healthcheck", password=None) == "OK"
    assert "/metrics and /healthcheck" in scene.flower.said


def test_nothing_can_be_steered_from_it(scene: Scene) -> None:
    for path in ("/api/worker/shutdown/data1@moon", "/api/task/async-apply/haulage.abort", "/api/task/revoke/x"):
        assert scene.flower.ask(path, form="{}")[0] == 403, path
