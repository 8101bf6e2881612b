"""Canaries in a profile and in a URL: a capture of all that happens holds them only where they must be."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis

from haulage.cli import main
from orchestrator.client import TransferClient
from orchestrator.errors import HaulageError
from orchestrator.settings import Settings
from orchestrator.states import State
from tests.e2e.fleet import Fleet
from tests.e2e.shared import BUCKET, KIB, QUICK_RETRY, STORE, CalmFleet, noise
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.process import wait_until
from tests.servers.range_server import RangeServer

pytest_plugins = ["tests.e2e.calm"]

SIGNATURE, BEARER, HEADER = "canary-signature-5f1c", "canary-bearer-77ab", "canary-header-e00d"
PATH = "/private/object.bin"
DATA = noise(300 * KIB)


@dataclass
class Capture:
    """Every command that reached Redis, as MONITOR tells it."""

    lines: list[str] = field(default_factory=list)

    def with_canary(self, canary: str) -> list[str]:
        return [line for line in self.lines if canary in line]


@contextmanager
def monitored(fleet: Fleet) -> Iterator[Capture]:
    """Capture all commands until the block ends; a last command of our own says that nothing is missing."""
    capture, client, over = Capture(), fleet.redis.client(), "the end of the capture"
    began = threading.Event()

    def listen() -> None:
        with client.monitor() as stream:
            began.set()
            for each in stream.listen():
                capture.lines.append(each["command"])
                if over in each["command"]:
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert began.wait(60)
    try:
        yield capture
    finally:
        fleet.redis.client().echo(over)
        thread.join(60)
    assert not thread.is_alive()


@dataclass
class Run:
    """What one run of three transfers left behind."""

    ids: dict[str, str]
    capture: Capture
    stored: dict[str, str]
    shown: dict[str, str]
    logs: str
    secret_key: str

    @property
    def everything(self) -> str:
        return "\n".join([*self.capture.lines, *self.stored.values(), *self.shown.values(), self.logs])


@pytest.fixture(scope="module")
def run(calm_fleet: CalmFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One transfer that completes, one that fails with 403, one that is cancelled; each with secrets on both sides."""
    folder = tmp_path_factory.mktemp("secrets")
    server = calm_fleet.store.server
    values: dict[str, Any] = {f"profile_{STORE}__{key}": text for key, text in server.profile.items()}
    values["profile_private__bearer"] = BEARER
    with (
        LoggingProxy(server.endpoint) as proxy,
        RangeServer() as web,
        Fleet(folder, log_level="DEBUG", **{**values, f"profile_{STORE}__endpoint": proxy.endpoint}) as fleet,
    ):
        worker = fleet.worker("talkative")
        with monitored(fleet) as capture:
            ids = {
                "fine": to_store(fleet, web, "/fine.bin"),
                "forbidden": to_store(fleet, web, "/forbidden.bin", status=403),
                "slow": to_store(fleet, web, "/slow.bin", drip_seconds=0.02),
            }
            fleet.wait(ids["fine"])
            fleet.wait_state(ids["forbidden"], State.FAILED)
            fleet.wait_leased(ids["slow"])
            fleet.client.cancel(ids["slow"])
            wait_until(lambda: not fleet.live_leases(ids["slow"]), "the part is handed back")
            with pytest.raises(HaulageError):
                fleet.wait(ids["slow"])
            shown = {name: show(fleet, each) for name, each in ids.items()}
        assert server.read(BUCKET, "fine.bin") == DATA
        assert BEARER in str([each.headers for each in web.requests])  # the secrets did what they are for
        assert SIGNATURE in str([each.path for each in web.requests])
        yield Run(ids, capture, dump(fleet.redis.client()), shown, worker.log_file.read_text(), server.secret_key)


def to_store(fleet: Fleet, web: RangeServer, name: str, **fault: Any) -> str:
    web.serve(name, DATA)
    web.fault(name, method="GET", **fault)
    return fleet.client.submit(
        f"{web.base}{name}?X-Signature={SIGNATURE}",
        f"s3://{BUCKET}{name}",
        source_profile="private",
        destination_profile=STORE,
        headers={"X-Token": HEADER},
        retry=QUICK_RETRY,
    )


def show(fleet: Fleet, transfer_id: str) -> str:
    """All that a user is shown of one transfer, by every road."""
    told: list[object] = [fleet.client.get(transfer_id), fleet.client.list(), fleet.client.history(transfer_id)]
    told += list(fleet.client.events(transfer_id))
    told += [fleet.ledger.record(transfer_id), fleet.ledger.record(transfer_id).spec, fleet.settings]
    try:
        told.append(fleet.client.wait(transfer_id, timeout_seconds=1))
    except HaulageError as error:
        told += [error, repr(error)]
    runner = CliRunner(env=fleet.env)
    for command in (["show", transfer_id], ["show", "--json", transfer_id], ["events", transfer_id], ["ls", "--json"]):
        done = runner.invoke(main, command)
        assert done.exit_code == 0, done.output
        told.append(done.output)
    return "\n".join(f"{each}\n{each!r}" for each in told)


def dump(client: Redis) -> dict[str, str]:
    """Every key with its value, whatever its type."""
    reading: dict[str, Any] = {
        "string": lambda key: client.get(key),
        "hash": lambda key: client.hgetall(key),
        "list": lambda key: client.lrange(key, 0, -1),
        "set": lambda key: client.smembers(key),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda key: client.xrange(key),
    }
    kinds: dict[bytes, Any] = {key: client.type(key) for key in client.scan_iter()}
    return {key.decode(): f"{key!r} {reading[kind.decode()](key)!r}" for key, kind in kinds.items()}


@pytest.fixture(params=[SIGNATURE, BEARER, HEADER, "secret key"], ids=["signature", "bearer", "header", "secret key"])
def canary(request: pytest.FixtureRequest, run: Run) -> str:
    return run.secret_key if request.param == "secret key" else str(request.param)


def test_a_secret_of_a_profile_is_nowhere(run: Run) -> None:
    assert BEARER not in run.everything
    assert run.secret_key not in run.everything


def test_what_a_spec_holds_is_in_the_ledgers_spec_and_in_the_call_that_stores_it(run: Run) -> None:
    for each in (SIGNATURE, HEADER):
        for id_ in run.ids.values():
            lines = [line for line in run.capture.with_canary(each) if id_ in line]
            # The call (twice if the server did not know the script yet), and what the script itself writes.
            calls = [line for line in lines if line.startswith(("EVALSHA ", "EVAL "))]
            writes = [line for line in lines if line.startswith(f"HSET hl:{{s0}}:t:{id_} ")]
            assert len(calls) in (1, 2)
            assert len(writes) == 1
            assert len(lines) == len(calls) + len(writes), lines
        strangers = [line for line in run.capture.with_canary(each) if not any(id_ in line for id_ in run.ids.values())]
        assert strangers == []
        holding = {key for key, value in run.stored.items() if each in value}
        assert holding == {f"hl:{{s0}}:t:{id_}" for id_ in run.ids.values()}


def test_of_a_transfers_record_only_the_spec_holds_it(run: Run) -> None:
    for id_ in run.ids.values():
        record = ast.literal_eval(run.stored[f"hl:{{s0}}:t:{id_}"].partition(" ")[2])
        holding = {field for field, value in record.items() for each in (SIGNATURE, HEADER) if each.encode() in value}
        assert holding == {b"spec"}


def test_nothing_that_is_shown_or_logged_holds_it(run: Run, canary: str) -> None:
    for name, text in run.shown.items():
        assert canary not in text, name
    assert canary not in run.logs


def test_messages_carry_ids_and_no_place_at_all(run: Run) -> None:
    bodies = [line for line in run.capture.lines if line.startswith(("LPUSH haulage.", 'LPUSH "haulage.'))]

    assert bodies
    assert all("http:" not in line and "s3:" not in line for line in bodies)


def test_the_capture_saw_the_run(run: Run) -> None:
    """Else all of this would pass for want of anything to look at."""
    seen = "\n".join(run.capture.lines)
    assert all(id_ in seen and id_ in run.logs for id_ in run.ids.values())
    assert '"level": "debug"' in run.logs
    assert "forbidden" in run.shown["forbidden"]
    assert "status 403" in run.shown["forbidden"]
    assert "cancelled" in run.shown["slow"]


def test_a_password_of_redis_is_not_shown(tmp_path: Path) -> None:
    settings = Settings(redis_url="redis://:canary-password@127.0.0.1:1/0", redis_retry_seconds=0)

    with TransferClient(settings) as client, pytest.raises(HaulageError) as raised:
        client.list()

    assert "canary-password" not in f"{settings!r}{settings}{raised.value!r}{raised.value}{client.__dict__}"
