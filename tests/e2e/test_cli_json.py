"""What programs read: one JSON document per line from every command, and no escape codes through a pipe."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from haulage.cli import SECTIONS
from tests.e2e.cli_terminal import HAULAGE
from tests.e2e.fleet import CHECKOUT, eventually
from tests.e2e.shared import MIB, Site
from tests.e2e.test_cli import Done, haulage, shell
from tests.servers.range_server import Pattern

pytest_plugins = ["tests.e2e.calm"]

TRANSFER = {
    *("transfer_id", "state", "reason", "source", "destination", "direction", "progress", "error", "result"),
    *("tenant", "reference", "created_at", "started_at", "ended_at"),
}


def documents(done: Done) -> list[dict[str, Any]]:
    """Every line of stdout is a JSON object."""
    assert done.code == 0, done.err
    return [dict(json.loads(line)) for line in done.out.splitlines()]


def test_every_command_about_transfers_speaks_json_with_stable_keys(site: Site) -> None:
    source = site.file(b"some bytes")
    (copied,) = documents(haulage(site, "cp", source, site.folder / "a", "--json", "--reference", "mine"))
    (submitted,) = documents(haulage(site, "submit", source, site.folder / "b", "--json"))
    (waited,) = documents(haulage(site, "wait", submitted["transfer_id"], "--json"))
    (paused,) = documents(haulage(site, "submit", source, site.folder / "c", "--json", "--paused"))
    listed = documents(haulage(site, "ls", "--json", "--limit", "2"))
    second = documents(haulage(site, "ls", "--json", "--limit", "2", "--page", "2"))
    (shown,) = documents(haulage(site, "show", copied["transfer_id"], "--json"))
    told = documents(haulage(site, "events", copied["transfer_id"], "--json", "--kinds", "completed"))
    (resumed,) = documents(haulage(site, "resume", paused["transfer_id"], "--json"))
    documents(haulage(site, "wait", paused["transfer_id"], "--json"))

    assert set(copied) == set(waited) == set(listed[0]) == TRANSFER
    assert set(shown) == TRANSFER | {"history", "failures", "held"}
    assert set(copied["progress"]) >= {"durable_bytes", "received_bytes", "total_bytes", "parts_done", "part_count"}
    assert (copied["state"], copied["reference"], copied["progress"]["durable_bytes"]) == ("completed", "mine", 10)
    assert [each["transfer_id"] for each in listed] == [paused["transfer_id"], submitted["transfer_id"]]
    assert second[0]["transfer_id"] == copied["transfer_id"]
    assert [each["kind"] for each in told] == ["completed"]
    assert set(told[0]) >= {"position", "transfer_id", "kind", "at_ms"}
    assert resumed == {"transfer_id": paused["transfer_id"], "state": "queued"}


def test_a_failed_copy_prints_its_final_document_and_exits_with_1(site: Site) -> None:
    done = haulage(site, "cp", site.folder / "missing", site.folder / "x", "--json")

    document = json.loads(done.out)
    assert done.code == 1
    assert (document["state"], document["error"]["code"]) == ("failed", "file_not_found")
    assert done.err.startswith("file_not_found: ")


def test_many_are_steered_by_filter_and_by_id(site: Site) -> None:
    name = site.key()
    ids = [
        documents(haulage(site, "submit", "--paused", "--json", "mem:a", f"mem:{name}{number}", "--tenant", name))[0]
        for number in range(3)
    ]
    some = [each["transfer_id"] for each in ids]

    refused = haulage(site, "pause", *some[:2], "s0-00000000000")
    both = haulage(site, "cancel", some[0], "--all")
    nothing = haulage(site, "cancel")
    loose = haulage(site, "cancel", some[0], "--tenant", name)
    one = documents(haulage(site, "cancel", some[0], "--json"))
    rest = documents(haulage(site, "cancel", "--all", "--tenant", name, "--json"))
    none = haulage(site, "retry", "--all", "--tenant", name)

    assert refused.code == 1
    assert refused.err.count("transfer_not_found: ") == 1
    assert [each.code for each in (both, nothing, loose)] == [2, 2, 2]
    assert one == [{"transfer_id": some[0], "state": "cancelled"}]
    assert {each["transfer_id"] for each in rest} == set(some[1:])
    assert (none.code, none.out, none.err) == (0, "", "retry: 0 transfers\n")


def test_failed_attempts_are_grouped_by_error(site: Site) -> None:
    url = site.web.serve("/x.bin", Pattern(4 * MIB))
    site.web.fault("/x.bin", method="GET", after=1, reset=1000, times=5)
    site.web.fault("/x.bin", method="GET", status=500, times=2)
    transfer_id = site.run(url, site.folder / "x.bin", part_size="1MiB", parts_in_flight=4).transfer_id

    (document,) = documents(haulage(site, "show", transfer_id, "--json"))
    groups = {each["code"]: each for each in document["failures"]}
    shown = haulage(site, "show", transfer_id).out

    assert sum(each["count"] for each in groups.values()) == len(document["history"]) >= 5
    assert groups["transport"]["count"] == 5
    assert set(groups["transport"]["parts"]) <= {1, 2, 3, 4}
    assert f"transport x{groups['transport']['count']} (part" in shown
    assert groups["transport"]["processes"][0] in shown
    assert groups["transport"]["message"] in shown


def test_what_was_skipped_is_shown_as_skipped(site: Site) -> None:
    target = site.file(b"old", "there")
    done = haulage(site, "cp", site.file(b"new"), target, "--on-exists", "skip", "--json")
    transfer_id = json.loads(done.out)["transfer_id"]

    assert done.code == 0
    assert "skipped: " in done.err
    assert haulage(site, "show", transfer_id).out.splitlines()[0] == f"{transfer_id}  skipped"
    assert target.read_bytes() == b"old"


def test_rows_of_ls_are_tabs_through_a_pipe(site: Site) -> None:
    transfer_id = site.run(site.file(b"12345"), site.folder / "x").transfer_id

    done = haulage(site, "ls", "--limit", "1")

    row = done.out.rstrip("\n").split("\t")
    assert row[:5] == [transfer_id, "completed", "", "5", "5"]
    assert row[6].endswith("/x")
    assert done.err == ""


def test_no_escape_codes_leave_through_a_pipe(site: Site) -> None:
    site.web.throttle = MIB
    url = site.web.serve("/piped.bin", Pattern(4 * MIB))

    copied = shell(site, "cp", url, site.folder / "piped.bin", "--part-size", "1MiB")
    listed = shell(site, "ls")
    shown = shell(site, "show", listed.out.split("\t")[0])

    assert [copied.code, listed.code, shown.code] == [0, 0, 0]
    assert copied.out == ""
    assert copied.err.splitlines()[-1].startswith("copied 4.0 MiB in ")
    everything = copied.err + listed.out + listed.err + shown.out + shown.err
    assert "\x1b" not in everything
    assert "\r" not in everything


def test_quiet_says_nothing_but_errors(site: Site) -> None:
    fine = haulage(site, "cp", "--quiet", site.file(b"x"), site.folder / "q")
    wrong = haulage(site, "cp", "--quiet", site.file(b"x"), site.folder / "q")

    assert (fine.code, fine.out, fine.err) == (0, "", "")
    assert wrong.code == 1
    assert wrong.err.startswith("destination_exists: ")


def test_a_name_cannot_speak_to_the_terminal(site: Site) -> None:
    hostile = site.file(b"x", "evil\u202egnp.exe")
    transfer_id = site.run(hostile, site.folder / "out", reference="\x1b[2J\nfake row").transfer_id

    listed = haulage(site, "ls", "--limit", "1")
    shown = haulage(site, "show", transfer_id)

    assert "evil\ufffdgnp.exe" in shown.out
    assert not {"\x1b", "\u202e"} & set(listed.out + shown.out)
    assert "\ufffd[2J\ufffdfake row" in shown.out
    assert len(listed.out.splitlines()) == 1
    assert listed.out.count("\t") == 6


def test_into_a_folder_that_is_there_it_goes_under_its_own_name(site: Site) -> None:
    (site.folder / "into").mkdir()

    done = haulage(site, "cp", site.file(b"x", "name.bin"), site.folder / "into")

    assert done.code == 0, done.err
    assert (site.folder / "into" / "name.bin").read_bytes() == b"x"


def test_a_folder_as_source_is_refused_in_one_sentence(site: Site) -> None:
    plain = haulage(site, "cp", site.folder, "/tmp/x")
    recursive = haulage(site, "cp", "-r", site.folder, "/tmp/x")

    assert [plain.code, recursive.code] == [2, 2]
    assert "copying a folder (-r) comes with a later version" in plain.err
    assert "copying folders (-r) comes with a later version" in recursive.err


def test_every_line_of_the_list_is_a_command_and_those_about_transfers_have_examples(site: Site) -> None:
    for title, section in SECTIONS.items():
        for name in section:
            helped = haulage(site, name, "--help")
            assert helped.code == 0, name
            if title == "Run":
                continue
            assert f"haulage {name}" in helped.out.partition("Options:")[0].partition("\n")[2], f"{name} has no example"


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(site: Site, shell_name: str) -> None:
    done = haulage(site, "completion", shell_name)

    assert done.code == 0
    assert "_HAULAGE_COMPLETE" in done.out


def complete(site: Site, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What a shell does at a Tab."""
    asked = {"_HAULAGE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["haulage", *words])}
    environment = {**site.fleet.environment, **asked, "COMP_CWORD": str(len(words)), **env}
    code = "from haulage.cli import main; main(prog_name='haulage')"
    return subprocess.run(
        [HAULAGE[0], "-c", code], env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )


def test_ids_and_commands_are_completed_and_without_redis_nothing_is_said(site: Site, tmp_path: Path) -> None:
    transfer_id = site.client.submit_paused("mem:a", f"mem:{site.key()}")

    def ids_are_offered() -> bool:  # a machine too busy to answer soon offers none
        offered = complete(site, "show", transfer_id[:6])
        assert offered.stderr == ""
        return f"plain,{transfer_id}" in offered.stdout

    eventually(ids_are_offered, "the transfer's id is offered")
    commands = complete(site, "ca")
    away = complete(site, "show", "s", HAULAGE_REDIS_URL=f"unix://{tmp_path}/none.sock")
    wrong = complete(site, "show", "s", HAULAGE_LEASE_SECONDS="soon")

    assert commands.stdout.strip() == "plain,cancel"
    for each in (commands, away, wrong):
        assert each.stderr == ""
    assert (away.stdout + wrong.stdout).strip() == ""
    site.client.cancel(transfer_id)
