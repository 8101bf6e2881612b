"""What a user meets who has not set up what a transfer needs, or whose engine is gone when a program ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from haulage.client import TransferClient
from haulage.engine import stop
from tests.e2e.cli_terminal import Terminal
from tests.e2e.engine_world import EngineWorld, engine_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    with engine_world(tmp_path / "engine", redis_retry_seconds=60) as world:
        yield world


def work_that_fails(world: EngineWorld, folder: Path) -> None:
    """A program whose engine is stopped under it, and which then fails for a reason of its own."""
    (folder / "a").write_bytes(b"abc")
    with TransferClient.embedded(**world.values) as client:
        client.submit(folder / "a", folder / "b")
        stop(world.settings)
        raise ValueError("the user's own")


def test_a_client_that_closes_without_its_engine_warns_and_keeps_the_users_own_error(
    world: EngineWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="the user's own"):
        work_that_fails(world, tmp_path)

    assert time.monotonic() - began < 40  # with the start and the end of an engine; the ledger's own retries take 60 s
    said = [each.message for each in caplog.records if each.name == "haulage.client"]
    assert len(said) == 1
    assert said[0].startswith("transfers were not paused at the end of their client: Redis at ")
    assert said[0].endswith(" did not answer: no such socket")


def test_a_copy_to_s3_without_credentials_names_what_to_set(world: EngineWorld, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    nothing_to_find = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    env = {name: value for name, value in world.environment.items() if not name.startswith("AWS_")} | nothing_to_find

    with Terminal(["cp", "a", "s3://bucket/key"], env, columns=140, cwd=tmp_path) as terminal:
        terminal.wait_for(
            "no credentials for s3: set --destination-profile or HAULAGE_PROFILE_S3__ACCESS_KEY and __SECRET_KEY"
        )
