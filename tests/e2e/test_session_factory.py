"""``HAULAGE_SESSION_FACTORY`` (RC-14): the application's session in real workers, a bad one named at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from haulage.cli import main
from tests.e2e.fleet import Fleet
from tests.e2e.marker_session import NAME, VALUE
from tests.e2e.shared import MIB, noise
from tests.servers.range_server import RangeServer

MODULE = "tests.e2e.marker_session"


def test_every_request_of_a_transfer_carries_the_header_of_the_applications_session(tmp_path: Path) -> None:
    data = noise(6 * MIB)
    with RangeServer() as web, Fleet(tmp_path, session_factory=f"{MODULE}:make") as fleet:
        fleet.worker("w")
        url = web.serve("/a.bin", data)
        to_file = fleet.client.submit(url, str(tmp_path / "a.bin"), part_size=MIB)
        to_web = fleet.client.submit(url, f"{web.base}/b.bin")
        fleet.wait(to_file)
        fleet.wait(to_web)

        assert (tmp_path / "a.bin").read_bytes() == data
        assert web.objects["/b.bin"].content == data
        assert sum(each.range is not None for each in web.requests) >= 6
        assert {each.method for each in web.requests} >= {"HEAD", "GET", "PUT"}
        assert [each.headers.get(NAME.lower()) for each in web.requests] == [VALUE] * len(web.requests)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("tests.e2e.no_such_module:make", "there is no module 'tests.e2e.no_such_module'"),
        (f"{MODULE}:no_such_function", "has no 'no_such_function'"),
        (f"{MODULE}:not_a_function", "is a int"),
        (f"{MODULE}:no_session", "a function that returns a requests.Session, not a str"),
        ("no colon", "String should match"),
    ],
)
def test_a_bad_factory_is_named_when_the_worker_starts(factory: str, said: str) -> None:
    env = {"HAULAGE_SESSION_FACTORY": factory, "HAULAGE_REDIS_URL": "redis://127.0.0.1:1/0"}

    done = CliRunner(env=env).invoke(main, ["worker"])

    assert done.exit_code == 2, done.output
    assert "HAULAGE_SESSION_FACTORY" in done.output
    assert said in done.output
    assert "canary" not in done.output
