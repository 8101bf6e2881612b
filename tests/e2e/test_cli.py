"""The command line as a shell sees it: exit codes, results on stdout, talk on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from haulage.cli import SECTIONS, main
from tests.e2e.fleet import CHECKOUT
from tests.e2e.shared import KIB, Site, noise
from tests.servers.process import free_port

pytest_plugins = ["tests.e2e.calm"]

DATA = noise(200 * KIB)
COMMAND = (sys.executable, "-m", "haulage")
COMMANDS = tuple(name for section in SECTIONS.values() for name in section)


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def shell(site: Site, *argv: str | Path, cwd: Path = CHECKOUT) -> Done:
    """As a process of its own; its start costs a second."""
    env = {**site.fleet.environment, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [*COMMAND, *map(str, argv)], env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def haulage(site: Site, *argv: str | Path, environment: Mapping[str, str] | None = None) -> Done:
    """The same command in this process."""
    runner = CliRunner(env={**site.fleet.env, **(environment or {})})
    done = runner.invoke(main, [str(each) for each in argv], prog_name="haulage")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def slow(site: Site) -> str:
    """The id of a transfer that moves and moves."""
    site.web.serve("/slow.bin", DATA)
    site.web.fault("/slow.bin", method="GET", after=1, drip_seconds=0.02)
    done = haulage(site, "submit", f"{site.web.base}/slow.bin", site.folder / "slow.bin", "--part-size", "64KiB")
    assert (done.code, done.err) == (0, "")
    site.fleet.wait_leased(done.out.strip())
    return done.out.strip()


def test_submit_prints_the_id_and_wait_the_end(site: Site) -> None:
    submitted = shell(site, "submit", site.file(DATA), site.folder / "x.bin", "--reference", "mine")
    transfer_id = submitted.out.strip()
    waited = shell(site, "wait", transfer_id, "--json")

    assert (submitted.code, submitted.err, submitted.out.count("\n")) == (0, "", 1)
    assert (waited.code, waited.err) == (0, "")
    assert waited.json["state"] == "completed"
    assert waited.json["reference"] == "mine"
    assert waited.json["progress"]["durable_bytes"] == len(DATA)
    assert (site.folder / "x.bin").read_bytes() == DATA


def test_submit_and_wait_in_one_with_paths_as_the_shell_has_them(site: Site) -> None:
    site.file(DATA, "in.bin")

    done = shell(site, "submit", "--wait", "--json", "in.bin", "sub/", cwd=site.folder)

    assert (done.code, done.err) == (0, "")
    assert done.json["transfer_id"] == site.client.list(limit=1)[0].transfer_id
    assert (done.json["state"], done.json["progress"]["parts_done"]) == ("completed", 1)
    assert (site.folder / "sub" / "in.bin").read_bytes() == DATA


def test_what_fails_exits_with_1_and_a_sentence_on_stderr(site: Site) -> None:
    target = site.file(b"old", "x.bin")

    done = shell(site, "submit", "--wait", site.file(DATA), target)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("destination_exists: ")
    assert "try: try --on-exists" not in done.err
    assert "--on-exists overwrite" in done.err
    assert "Traceback" not in done.err


def test_what_is_refused_exits_with_2_and_names_the_field(site: Site) -> None:
    done = shell(site, "submit", site.file(DATA), "gopher://host/x")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("invalid_value: destination: 'gopher:' is refused; allowed: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["no-such-command"],
        ["submit", "only-one"],
        ["submit", "/a", "/b", "--on-exists", "maybe"],
        ["submit", "/a", "/b", "--header", "no-equals-sign"],
        ["submit", "/a", "/b", "--part-size", "much"],
        ["submit", "/a", "/b", "--checksum", "sha256:no"],
        ["ls", "--limit", "0"],
        ["ls", "--state", "nonsense"],
        ["wait", "s0-00000000000", "--timeout", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_is_silent_on_stdout(site: Site, argv: list[str]) -> None:
    done = haulage(site, *argv)

    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", ["show", "wait", "events", "pause", "resume", "cancel", "retry"])
def test_an_unknown_id_exits_with_1(site: Site, command: str) -> None:
    done = haulage(site, command, "s0-00000000000")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("transfer_not_found: ")
    assert "haulage ls" in done.err


def test_without_redis_it_says_what_to_look_at(site: Site) -> None:
    nowhere = {"HAULAGE_REDIS_URL": f"redis://:hidden@127.0.0.1:{free_port()}/0", "HAULAGE_REDIS_RETRY_SECONDS": "0"}

    done = haulage(site, "ls", environment=nowhere)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("ledger_unavailable: ")
    assert "HAULAGE_REDIS_URL" in done.err
    assert "hidden" not in done.err
    assert "Traceback" not in done.err


def test_a_bad_setting_exits_with_2(site: Site) -> None:
    done = haulage(site, "ls", environment={"HAULAGE_LEASE_SECONDS": "soon"})

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("invalid_value: HAULAGE_LEASE_SECONDS: ")


def test_a_transfer_is_steered_through_all_its_life(site: Site) -> None:
    transfer_id = slow(site)

    paused = haulage(site, "pause", transfer_id)
    refused = haulage(site, "retry", transfer_id)
    shown = haulage(site, "show", transfer_id, "--json")
    site.web.faults.clear()
    resumed = haulage(site, "resume", transfer_id, "--json")
    waited = haulage(site, "wait", transfer_id)

    assert (paused.code, paused.out, paused.err) == (0, f"{transfer_id} paused\n", "")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("invalid_state: ")
    assert (shown.code, shown.json["state"], shown.json["history"]) == (0, "paused", [])
    assert (resumed.code, resumed.json) == (0, {"transfer_id": transfer_id, "state": "queued"})
    assert waited.code == 0
    assert waited.out.startswith(f"{transfer_id}  completed")
    assert (site.folder / "slow.bin").read_bytes() == DATA


def test_cancel_ends_a_wait_with_1(site: Site) -> None:
    transfer_id = slow(site)

    cancelled = haulage(site, "cancel", transfer_id)
    waited = haulage(site, "wait", transfer_id)

    assert (cancelled.code, cancelled.out) == (0, f"{transfer_id} cancelled\n")
    assert (waited.code, waited.out) == (1, "")
    assert waited.err.startswith("cancelled: ")


def test_a_wait_gives_up_after_its_time(site: Site) -> None:
    transfer_id = slow(site)

    waited = haulage(site, "wait", transfer_id, "--timeout", "0.1")

    assert (waited.code, waited.out) == (1, "")
    assert waited.err.startswith("wait_timeout: ")
    site.client.cancel(transfer_id)


def test_it_waits_for_several_and_exits_with_1_if_one_failed(site: Site) -> None:
    source = site.file(DATA)
    good = [haulage(site, "submit", source, site.folder / name).out.strip() for name in ("g1", "g2")]
    bad = haulage(site, "submit", f"{site.web.base}/missing", site.folder / "bad").out.strip()

    both, one_failed = haulage(site, "wait", *good), haulage(site, "wait", good[0], bad, "s0-0", good[1])
    paused = haulage(site, "submit", source, site.folder / "p", "--paused").out.strip()
    too_late = haulage(site, "wait", good[0], paused, "--timeout", "0.1")

    assert (both.code, both.err, both.out.count("completed")) == (0, "", 2)
    assert (one_failed.code, one_failed.out.count("completed")) == (1, 2)
    assert f"not_found: transfer {bad} failed" in one_failed.err
    assert "transfer_not_found: " in one_failed.err
    assert too_late.code == 1
    assert "is still paused after 0.1 s" in too_late.err


def test_paused_it_waits_for_resume(site: Site) -> None:
    submitted = haulage(site, "submit", "--paused", site.file(DATA), site.folder / "x.bin")
    transfer_id = submitted.out.strip()
    listed = haulage(site, "ls", "--json", "--state", "paused")

    assert transfer_id in [json.loads(line)["transfer_id"] for line in listed.out.splitlines()]
    assert not (site.folder / "x.bin").exists()
    assert haulage(site, "resume", transfer_id).code == 0
    assert haulage(site, "wait", transfer_id).code == 0


def test_a_failed_transfer_shows_why_and_is_retried(site: Site) -> None:
    site.web.serve("/x.bin", DATA)
    forbidden = site.web.fault("/x.bin", method="GET", status=403)
    submitted = haulage(site, "submit", "--wait", f"{site.web.base}/x.bin?sig=hidden", site.folder / "x.bin")
    transfer_id = site.client.list(limit=1)[0].transfer_id
    shown = haulage(site, "show", transfer_id)
    forbidden.times = 0

    retried = haulage(site, "retry", transfer_id)
    waited = haulage(site, "wait", transfer_id)

    assert submitted.code == 1
    assert submitted.err.startswith("forbidden: ")
    assert "status 403" in shown.out
    assert "hidden" not in submitted.err + submitted.out + shown.out
    assert (retried.code, retried.out) == (0, f"{transfer_id} queued\n")
    assert waited.code == 0


def test_events_are_one_json_document_a_line_and_end_with_the_transfer(site: Site) -> None:
    transfer_id = site.run(site.file(DATA), site.folder / "x.bin").transfer_id

    everything = haulage(site, "events", transfer_id)
    rows = [json.loads(line) for line in everything.out.splitlines()]
    rest = haulage(site, "events", transfer_id, "--after", rows[0]["position"])

    assert (everything.code, everything.err) == (0, "")
    assert rows[0]["kind"] == "queued"
    assert rows[-1]["kind"] == "completed"
    assert rest.out.splitlines() == everything.out.splitlines()[1:]


def test_help_names_every_command(site: Site) -> None:
    helped = haulage(site, "-h")

    assert (helped.code, helped.err) == (0, "")
    assert all(f"  {each} " in helped.out for each in COMMANDS)


def test_output_that_nobody_reads_is_no_traceback(site: Site) -> None:
    for number in range(3):
        site.client.cancel(site.client.submit_paused("mem:a", f"mem:{site.key()}-{number}"))

    with subprocess.Popen(
        [*COMMAND, "ls"],
        env=site.fleet.environment,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        talk = process.stderr.read()

    assert "Traceback" not in talk


def test_a_wait_that_ends_too_early_names_the_time_it_was_given(site: Site) -> None:
    transfer_id = site.client.submit_paused(str(site.file(DATA)), str(site.folder / "later.bin"))

    done = shell(site, "wait", "--timeout", "0.7", transfer_id)

    assert (done.code, done.out) == (1, "")
    assert f"transfer {transfer_id} is still paused after 0.7 s" in done.err
