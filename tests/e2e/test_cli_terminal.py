"""The command line on a real terminal: bars that move, Ctrl-C, resizing, the full screen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.cli_terminal import CTRL_C, Terminal
from tests.e2e.fleet import Fleet, eventually
from tests.e2e.shared import MIB, Site, sha256
from tests.servers.range_server import Fault, Pattern, RangeServer

pytest_plugins = ["tests.e2e.calm"]

SIZE = 24 * MIB
BIG = Pattern(SIZE)
PARTS = ("--part-size", "1MiB", "--parts-in-flight", "4")
PERCENT = re.compile(r"(\d+)%")


def slow_url(site: Site, *, bytes_per_second: int) -> str:
    """24 MiB: at 1 MiB/s they take 6 s with four parts at once, so have a test end the throttle."""
    site.web.throttle = bytes_per_second
    return site.web.serve("/big.bin", BIG)


def held_url(web: RangeServer) -> tuple[str, Fault]:
    """24 MiB of which about a third come at once, and the rest by the byte until the fault is told to ``let_go``."""
    return web.serve("/big.bin", BIG), web.fault("/big.bin", method="GET", after=9, drip_seconds=0.02)


def copying(
    site: Site, *argv: str | Path, columns: int = 80, env: Mapping[str, str] | None = None, verb: str = "cp"
) -> Terminal:
    environment = {**site.fleet.environment, **(env or {})}
    return Terminal([verb, *argv], environment, columns=columns, cwd=site.folder)


def percent_of(text: str) -> int:
    found = PERCENT.search(text)
    return int(found[1]) if found else -1


def newest(site: Site) -> str:
    return site.client.list(limit=1)[0].transfer_id


def test_cp_moves_a_bar_and_leaves_one_line(site: Site) -> None:
    def has_stored(text: str) -> bool:
        return re.search(r"MiB of 24\.0 MiB stored · .*parts \d+/24", text) is not None

    with copying(site, slow_url(site, bytes_per_second=MIB // 4), ".", *PARTS) as terminal:
        first = percent_of(terminal.wait_for(lambda text: 0 < percent_of(text) < 90, "a bar"))
        later = terminal.wait_for(lambda text: percent_of(text) > first and has_stored(text), "a bar that moved")
        site.web.throttle = None
        code = terminal.wait_end()

    assert re.search(r"━|╍", later)
    assert "big.bin" in later
    assert "/s " in later
    assert code == 0
    assert [each for each in terminal.lines if each] == terminal.lines_with("copied 24.0 MiB in ")
    assert sha256(site.folder / "big.bin") == BIG.sha256()
    assert b"\x1b[?25l" not in terminal.raw, "who is killed could not show the cursor again"


def test_ctrl_c_pauses_and_the_same_command_goes_on_where_it_stopped(site: Site) -> None:
    url, held = held_url(site.web)
    with copying(site, url, "copy.bin", *PARTS) as terminal:
        terminal.wait_for(lambda text: percent_of(text) >= 25, "a quarter")
        terminal.send(CTRL_C)
        assert terminal.wait_end() == 1
    transfer_id = newest(site)
    paused = site.client.get(transfer_id)

    assert paused.state == "paused"
    assert site.fleet.live_leases(transfer_id) == {}, "paused means that nobody moves its parts any more"
    assert terminal.lines_with(f"paused {transfer_id}: ")
    assert terminal.lines_with(f"go on with: haulage cp {url} copy.bin --part-size 1MiB")
    assert terminal.lines_with(f"or: haulage resume {transfer_id}")
    assert 0 < paused.progress.durable_bytes < SIZE

    held.let_go()
    with copying(site, url, "copy.bin", *PARTS) as terminal:
        assert terminal.wait_end() == 0

    assert terminal.lines_with(f"resuming {transfer_id}: ")
    assert newest(site) == transfer_id
    assert sha256(site.folder / "copy.bin") == BIG.sha256()
    sent = sum(each.bytes_sent for each in site.gets("/big.bin"))
    assert sent <= SIZE + 5 * MIB, "only what was in flight, and the first look at the source, is sent again"


def test_a_second_ctrl_c_leaves_at_once(site: Site) -> None:
    site.web.serve("/hangs.bin", BIG)
    site.web.fault("/hangs.bin", method="GET", after=2, stall=1000)
    with copying(site, f"{site.web.base}/hangs.bin", "x.bin", *PARTS) as terminal:
        terminal.wait_for("hangs.bin")
        terminal.send(CTRL_C)
        terminal.send(CTRL_C)
        code = terminal.wait_end()

    assert code == 1
    assert "Traceback" not in terminal.text
    site.client.cancel(newest(site))


def test_a_failed_copy_is_tried_again_by_the_same_command_with_its_parts_kept(site: Site) -> None:
    url = site.web.serve("/x.bin", Pattern(4 * MIB))
    refused = site.web.fault("/x.bin", method="GET", after=3, status=403)
    with copying(site, url, "x.bin", *PARTS) as terminal:
        assert terminal.wait_end() == 1
    transfer_id = newest(site)
    assert terminal.lines_with("forbidden: ")
    assert terminal.lines_with("try: look at the profile's credentials")
    refused.times = 0

    with copying(site, url, "x.bin", *PARTS) as terminal:
        assert terminal.wait_end() == 0

    assert terminal.lines_with(f"trying {transfer_id} again: ")
    assert newest(site) == transfer_id


def test_a_live_copy_is_joined_and_a_completed_one_is_left_unless_told_otherwise(site: Site) -> None:
    url = slow_url(site, bytes_per_second=MIB // 4)
    running = site.submit(url, site.folder / "j.bin", part_size="1MiB", parts_in_flight=4)

    with copying(site, url, "j.bin") as joined:
        joined.wait_for(f"going on with {running}")
        site.web.throttle = None
        assert joined.wait_end() == 0
    with copying(site, url, "j.bin") as again:
        assert again.wait_end() == 0
    with copying(site, url, "j.bin", "--on-exists", "fail") as failing:
        assert failing.wait_end() == 1
    with copying(site, url, "j.bin", "--on-exists", "skip") as skipping:
        assert skipping.wait_end() == 0

    assert again.lines_with("already copied at ")
    assert failing.lines_with("destination_exists: ")
    assert failing.lines_with("try: --on-exists")
    assert skipping.lines_with("skipped: ")


def test_another_source_for_a_busy_destination_is_a_duplicate(site: Site) -> None:
    running = site.submit(slow_url(site, bytes_per_second=64 << 10), site.folder / "d.bin", part_size="1MiB")
    other = site.web.serve("/other.bin", Pattern(MIB))

    with copying(site, other, "d.bin") as terminal:
        code = terminal.wait_end()

    assert code == 1
    assert f"duplicate: transfer {running} already writes" in terminal.text
    assert f"try: haulage show {running} tells" in terminal.text
    site.client.cancel(running)


def test_the_bar_says_which_fault_holds_it(site: Site) -> None:
    url = site.web.serve("/t.bin", Pattern(4 * MIB))
    throttled = site.web.fault("/t.bin", method="GET", after=2, status=503, headers={"Retry-After": "60"})
    resets = site.web.serve("/r.bin", Pattern(4 * MIB))
    hiccup = site.web.fault("/r.bin", method="GET", after=2, reset=1000)

    waits = rf"waiting: throttled by {site.web.base.removeprefix('http://')}, next try in \d+ s"
    retries = r"\d+ (retry|retries)\s+retrying part \d+: connection reset by peer"

    with copying(site, url, "t.bin", *PARTS) as terminal:
        terminal.wait_for(lambda text: re.search(waits, text) is not None, waits)
    with copying(site, resets, "r.bin", *PARTS) as terminal:
        terminal.wait_for(lambda text: re.search(retries, text, re.IGNORECASE) is not None, retries)
        hiccup.times = 0
        assert terminal.wait_end() == 0

    throttled.times = 0
    site.client.cancel(site.client.list(source_contains="/t.bin", limit=1)[0].transfer_id)


def test_without_a_worker_the_bar_and_the_events_say_so(tmp_path: Path) -> None:
    with Fleet(tmp_path / "fleet") as fleet:
        (tmp_path / "a").write_bytes(b"x")
        with Terminal(["cp", tmp_path / "a", tmp_path / "b"], fleet.environment) as terminal:
            terminal.wait_for("no worker serves its queue: start one with `haulage worker`")
            (waiting,) = fleet.client.list()
            with Terminal(["events", waiting.transfer_id], fleet.environment, columns=120) as events:
                events.wait_for("no worker serves its queue: start one with `haulage worker`")
                fleet.worker("late")
                assert terminal.wait_end() == 0
                assert events.wait_end() == 0

    assert (tmp_path / "b").read_bytes() == b"x"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_resizing_keeps_one_bar_that_fits(site: Site, columns: int) -> None:
    with copying(site, held_url(site.web)[0], "r.bin", *PARTS, columns=100) as terminal:
        terminal.wait_for(lambda text: percent_of(text) > 0, "a bar")
        before = len(terminal.raw)
        terminal.resize(columns)
        eventually(lambda: terminal.raw.count(b"\x1b[J", before) >= 3, "painted anew")
        screen = terminal.wait_for(lambda text: len(PERCENT.findall(text)) == 1, "one bar")
        terminal.send(CTRL_C)
        terminal.wait_end()

    bars = [each for each in screen.splitlines() if PERCENT.search(each)]
    assert len(bars) == 1
    assert columns - 30 < len(bars[0]) < columns
    assert sum("stored" in each for each in screen.splitlines()) == 1
    site.client.cancel(newest(site))


def test_watch_draws_resizes_and_leaves_on_q(site: Site) -> None:
    running = site.submit(
        slow_url(site, bytes_per_second=MIB // 4), site.folder / "w.bin", part_size="1MiB", parts_in_flight=4
    )
    with copying(site, verb="watch") as terminal:
        drawn = terminal.wait_for(lambda text: "running" in text and "w.bin" in text, "the transfer")
        terminal.wait_for("q leaves")
        assert len(terminal.lines) == 24
        assert terminal.lines[0].startswith("haulage  ")
        assert terminal.lines[23] == "q leaves" or terminal.lines[23].startswith("q leaves, up and down")
        terminal.wait_for(lambda text: "MiB/s" in text or "KiB/s" in text, "a rate")

        terminal.resize(200, 30)
        wide = terminal.wait_for(lambda text: running in text and "━" in text and "PARTS" in text, "more columns")
        terminal.resize(60, 12)
        narrow = terminal.wait_for(lambda text: "q leaves" in text and "\nrunning" in text, "fewer columns")
        terminal.send(b"q")
        code = terminal.wait_end()

    assert code == 0
    assert "STATE" in drawn
    assert max(map(len, wide.splitlines())) <= 200
    assert narrow.count("q leaves") == 1
    assert "PARTS" not in narrow
    assert terminal.raw.startswith(b"\x1b[?1049h")
    assert terminal.raw.rstrip().endswith(b"\x1b[?1049l")
    site.client.cancel(running)


def test_watch_shows_the_oldest_too_where_it_is_at_work_and_many_wait(site: Site) -> None:
    from haulage.cli.watch import View

    running = site.submit(slow_url(site, bytes_per_second=MIB // 4), site.folder / "old.bin", reference="crowd")
    site.fleet.wait_leased(running)
    later = [
        site.client.submit_paused(site.file(b"x"), str(site.folder / f"{number}.txt"), reference="crowd")
        for number in range(3)
    ]
    view = View(site.client, {"reference": "crowd"}, most=2)

    view.look()

    shown = [each.plain for each in view.lines(120, 12)]
    assert "1 running, 2+ paused" in shown[0]
    assert running in shown[3]
    for each in (running, *later):
        site.client.cancel(each)


def test_ls_fits_the_terminal_and_colours_the_states(site: Site) -> None:
    long = site.folder / ("deep/" * 20)
    site.client.cancel(site.client.submit_paused("mem:a", f"{long}/ls.bin", reference="fits"))

    for columns in (60, 80, 200):
        with copying(site, "--reference", "fits", verb="ls", columns=columns) as terminal:
            assert terminal.wait_end() == 0
        rows = [each for each in terminal.lines if each]
        assert len(rows) == 2, rows
        assert rows[1].startswith("s0-")
        assert "cancelled" in rows[1]
        assert rows[1].endswith("ls.bin")
        assert b"\x1b[90m" in terminal.raw


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_color_and_dumb_terminals_get_no_colours(site: Site, env: dict[str, str]) -> None:
    site.client.cancel(site.client.submit_paused("mem:a", f"mem:{site.key()}", reference="plain"))

    with copying(site, "--reference", "plain", verb="ls", env=env) as listed:
        assert listed.wait_end() == 0
    with copying(site, site.file(b"some", "in"), "out", env=env) as copied:
        assert copied.wait_end() == 0

    assert not re.search(rb"\x1b\[[0-9;]*m", listed.raw.replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b""))
    if "TERM" in env:
        assert b"\x1b" not in listed.raw + copied.raw


def test_a_checksum_that_is_proven_is_shown_while_it_is_read_again(tmp_path: Path) -> None:
    with Fleet(tmp_path / "fleet", RENEW_SECONDS=0.05) as fleet:
        fleet.worker("one")
        big = tmp_path / "big.bin"
        big.write_bytes(BIG.read(0, SIZE) * 12)
        digest = hashlib.md5(big.read_bytes(), usedforsecurity=False).hexdigest()
        with Terminal(["cp", big, tmp_path / "copy.bin", "--checksum", f"md5:{digest}"], fleet.environment) as terminal:
            assert terminal.wait_end() == 0

    assert b"verifying: " in terminal.raw
    assert terminal.lines_with("verified by md5")


def test_a_ledger_that_goes_away_for_a_while_ends_nothing(tmp_path: Path, web: RangeServer) -> None:
    web.throttle = MIB // 2
    url = web.serve("/big.bin", BIG)
    with Fleet(tmp_path / "fleet") as fleet:
        fleet.worker("one")
        with Terminal(["cp", url, tmp_path / "copy.bin", *PARTS], fleet.environment) as terminal:
            terminal.wait_for(lambda text: percent_of(text) > 0, "a bar")
            fleet.redis.kill()
            terminal.wait_for("the ledger does not answer, trying again")
            fleet.redis.start()
            web.throttle = None
            assert terminal.wait_end() == 0, terminal.text

    assert sha256(tmp_path / "copy.bin") == BIG.sha256()


def test_a_terminal_of_ascii_gets_ascii(site: Site) -> None:
    named = site.file(b"x", "caf\u00e9.bin")
    url, held = held_url(site.web)
    with copying(site, url, "a.bin", *PARTS, env={"ENCODING": "ascii"}) as terminal:
        terminal.wait_for("####")
        held.let_go()
        assert terminal.wait_end() == 0
    site.run(named, site.folder / "accent", reference="ascii")
    with copying(site, "--reference", "ascii", verb="ls", columns=50, env={"ENCODING": "ascii"}) as listed:
        assert listed.wait_end() == 0

    assert bytes(terminal.raw + listed.raw).isascii()


def test_all_asks_first_on_a_terminal(site: Site) -> None:
    name = site.key()
    kept = site.client.submit_paused("mem:a", f"mem:{name}", tenant=name)
    with copying(site, "--all", "--tenant", name, verb="cancel") as refused:
        refused.wait_for("cancel 1 transfer? [y/N]")
        refused.send(b"n\n")
        assert refused.wait_end() == 1
    still = site.client.get(kept).state
    with copying(site, "--all", "--tenant", name, "--yes", verb="cancel") as agreed:
        assert agreed.wait_end() == 0

    assert still == "paused"
    assert site.client.get(kept).state == "cancelled"
    assert agreed.lines_with("cancel: 1 transfer")


def test_events_are_rows_on_a_terminal(site: Site) -> None:
    transfer_id = site.run(site.file(b"x" * 2048), site.folder / "e").transfer_id

    with copying(site, transfer_id, verb="events", columns=200) as terminal:
        assert terminal.wait_end() == 0

    rows = [each for each in terminal.lines if each]
    assert all(re.match(rf"\d\d:\d\d:\d\d  {transfer_id}  \w+", each) for each in rows), rows
    assert "size 2.0 KiB" in terminal.text
    assert rows[-1].split()[2] == "completed"
