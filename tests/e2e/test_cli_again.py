"""``cp`` once more: with other options, after it completed, and after it was told to end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.views import Transfer
from tests.e2e.cli_terminal import HAULAGE
from tests.e2e.fleet import CHECKOUT, eventually
from tests.e2e.shared import KIB, MIB, Site, noise, sha256
from tests.servers.range_server import Pattern

pytest_plugins = ["tests.e2e.calm"]

BIG = Pattern(8 * MIB)
DATA = noise(200 * KIB)
PARTS = ("--part-size", "1MiB", "--parts-in-flight", "2")


def start(site: Site, *argv: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HAULAGE, "cp", *map(str, argv)],
        env={**site.fleet.environment, "PYTHONPATH": str(CHECKOUT)},
        cwd=site.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cp(site: Site, *argv: str | Path) -> tuple[int, str, str]:
    """Exit code, results and talk."""
    process = start(site, *argv)
    out, talk = process.communicate(timeout=60)
    return process.returncode, out, talk


def newest(site: Site) -> str:
    return site.client.list(limit=1)[0].transfer_id


def begun(site: Site, *argv: str) -> tuple[str, str, subprocess.Popen[str]]:
    """A slow copy that has stored something: its URL, its id and its process."""
    site.web.throttle = MIB
    url = site.web.serve("/big.bin", BIG)
    process = start(site, url, "big.bin", *PARTS, *argv)
    eventually(lambda: any(each.progress.durable_bytes for each in listed(site, url)), "something is stored")
    return url, listed(site, url)[0].transfer_id, process


def listed(site: Site, url: str) -> list[Transfer]:
    return site.client.list(source_contains=url, limit=1)


def test_other_options_begin_it_anew_and_equal_ones_go_on(site: Site) -> None:
    url, first, process = begun(site)
    process.kill()
    process.communicate()
    site.file(b"older", "big.bin")
    site.web.throttle = None

    code, _, talk = cp(site, url, "big.bin", *PARTS, "--on-exists", "overwrite")

    assert code == 0, talk
    assert f"options changed (--on-exists): cancels {first} and begins anew" in talk
    assert "going on with" not in talk
    assert site.client.get(first).state == "cancelled"
    assert sha256(site.folder / "big.bin") == BIG.sha256()


def test_options_that_change_no_byte_cost_nothing_that_is_stored(site: Site) -> None:
    url, first, process = begun(site)
    process.kill()
    process.communicate()
    site.client.pause(first)
    site.web.throttle = None

    code, _, talk = cp(site, url, "big.bin", *PARTS, "--priority", "0")

    assert code == 0, talk
    assert "as it was submitted at first: --priority" in talk
    assert f"resuming {first}" in talk
    assert site.client.get(first).state == "completed"


def test_a_profile_that_was_forgotten_at_first_begins_it_anew(site: Site) -> None:
    url = site.web.serve("/p.bin", Pattern(MIB))
    first = site.client.submit_paused(url, str(site.folder / "p.bin"))

    process = start(site, url, "p.bin", "--source-profile", "broken")
    eventually(lambda: listed(site, url)[0].reason == "provider", "that profile cannot be used, and it was")
    process.terminate()
    _, talk = process.communicate(timeout=60)

    assert f"options changed (--source-profile): cancels {first} and begins anew" in talk
    assert site.client.get(first).state == "cancelled"
    site.client.cancel(newest(site))


def test_sigterm_pauses_it_and_says_how_to_go_on(site: Site) -> None:
    url, transfer_id, process = begun(site)
    process.terminate()
    _, talk = process.communicate(timeout=60)

    assert process.returncode == 143
    assert f"paused {transfer_id}: " in talk
    assert f"or: haulage resume {transfer_id}" in talk
    assert site.client.get(transfer_id).state == "paused"

    site.web.throttle = None
    code, _, talk = cp(site, url, "big.bin", *PARTS)

    assert code == 0
    assert f"resuming {transfer_id}: " in talk


def test_what_was_copied_already_is_left_as_it_is(site: Site) -> None:
    url = site.web.serve("/done.bin", Pattern(MIB))
    assert cp(site, url, ".")[0] == 0
    transfer_id = newest(site)
    asked = len(site.web.requests)

    code, _, talk = cp(site, url, ".")
    assert (code, talk.endswith(f" by {transfer_id}\n")) == (0, True)
    assert talk.startswith("already copied at ")
    code, out, _ = cp(site, url, ".", "--json")

    assert (code, json.loads(out)["already"], json.loads(out)["transfer_id"]) == (0, True, transfer_id)
    assert newest(site) == transfer_id
    assert len(site.web.requests) == asked
    assert cp(site, url + "?other=object", ".")[0] == 1, "another query may name another object"


@pytest.mark.parametrize("changed", ["the destination", "its size", "the source", "the options"])
def test_what_changed_since_is_not_copied_already(site: Site, changed: str) -> None:
    source = site.file(DATA)
    target = site.folder / "copy.bin"
    assert cp(site, source, target)[0] == 0
    ended_at = site.client.list(limit=1)[0].ended_at or 0.0
    later = ended_at + 10
    more: tuple[str, ...] = ()
    match changed:
        case "the destination":
            os.utime(target, (later, later))
        case "its size":
            target.write_bytes(DATA[1:])
            os.utime(target, (ended_at, ended_at))
        case "the source":
            os.utime(source, (later, later))
        case "the options":
            more = ("--checksum", f"sha256:{sha256(source)}")

    code, _, talk = cp(site, source, target, *more)

    assert code == 1
    assert talk.startswith("destination_exists: ")


def test_a_url_without_its_scheme_is_guessed(site: Site) -> None:
    code, out, talk = cp(site, "example.org/big.iso?token=hidden", ".")

    assert (code, out) == (2, "")
    assert "did you mean https://example.org/big.iso?" in talk
    assert "hidden" not in talk
