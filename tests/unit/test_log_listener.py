"""The one debug-log listener of a process (RC-37, BN-18)."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from haulage.logs import LOGGERS, LogEntry, clear_log_listener, set_log_listener, try_set_log_listener
from tests.e2e.fleet import CHECKOUT

CANARY = "cAnArY"
log = logging.getLogger("providers.test")


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    clear_log_listener()
    yield
    clear_log_listener()


def test_there_is_at_most_one_listener() -> None:
    first, second = list[LogEntry](), list[LogEntry]()

    assert try_set_log_listener(first.append)
    assert not try_set_log_listener(second.append)
    log.warning("one")
    set_log_listener(second.append)
    log.warning("two")
    assert clear_log_listener()
    log.warning("three")

    assert [each.message for each in first] == ["one"]
    assert [each.message for each in second] == ["two"]
    assert not clear_log_listener()


def test_an_entry_says_when_where_how_bad_and_about_what() -> None:
    entries: list[LogEntry] = []
    set_log_listener(entries.append)

    about = {"transfer_id": "s0-1", "part": "7", "code": "transport", "delay_ms": 200}
    logging.getLogger("workers.lane").warning("part_failed", extra=about)

    (entry,) = entries
    assert (entry.level, entry.tag, entry.transfer_id, entry.part, entry.code) == (
        *("WARNING", "workers.lane", "s0-1", 7, "transport"),
    )
    assert entry.message == "part_failed code=transport delay_ms=200"
    assert entry.timestamp_ms > 1_700_000_000_000


def test_nothing_secret_reaches_the_listener() -> None:
    entries: list[LogEntry] = []
    set_log_listener(entries.append)

    log.warning("GET https://user:%s@host/key?X-Amz-Signature=%s failed", CANARY, CANARY)
    log.warning("failed", extra={"url": f"/bucket/key?sig={CANARY}", "header": f"authorization: Bearer {CANARY}"})
    try:
        raise ValueError(f"https://host/?token={CANARY}")
    except ValueError:
        log.exception("broken")

    assert len(entries) == 3
    assert "ValueError" in entries[2].message
    assert CANARY not in str(entries)


def test_a_listener_that_raises_or_logs_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def bad(entry: LogEntry) -> None:
        calls.append(entry.message)
        log.warning("from inside")
        raise ValueError

    set_log_listener(bad)
    log.warning("one")
    log.warning("two")

    assert calls == ["one", "two"]
    assert caplog.messages.count("two") == 1


def test_a_slow_listener_holds_up_no_other_thread() -> None:
    gate, inside, entries = threading.Event(), threading.Event(), list[str]()

    def slow(entry: LogEntry) -> None:
        if entry.message == "slow":
            inside.set()
            gate.wait()
        entries.append(entry.message)

    set_log_listener(slow)
    held = threading.Thread(target=log.warning, args=("slow",))
    held.start()
    assert inside.wait(10)

    log.warning("quick")

    assert entries == ["quick"]
    gate.set()
    held.join()
    assert entries == ["quick", "slow"]


def test_a_level_is_lent_and_given_back() -> None:
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    entries: list[LogEntry] = []

    set_log_listener(entries.append, level="DEBUG")
    log.debug("fine print")
    clear_log_listener()

    assert [each.level for each in entries] == ["DEBUG"]
    assert {name: logging.getLogger(name).level for name in LOGGERS} == before


WORKER = """
import structlog
from haulage.logs import set_log_listener
from workers.logs import configure_logs
configure_logs("INFO", "json")
set_log_listener(lambda entry: print(entry.tag, entry.message, entry.transfer_id, entry.part, entry.code, sep="|"))
log = structlog.get_logger("workers.lane")
log.info("part_stored", transfer_id="s0-1", part=3, code="fine", url="https://h/k?sig=cAnArY")
"""


def test_what_a_worker_logs_reaches_a_listener_in_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORKER], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )

    assert ended.stdout == "workers.lane|part_stored code=fine url=https://h/k|s0-1|3|fine\n"
    assert CANARY not in ended.stderr
