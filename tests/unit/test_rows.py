"""What a row says, and that it costs a chord's result set nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.utils.saferepr import saferepr
from kombu.utils.json import dumps

from orchestrator.dispatch import COMPLETE, PART, PREPARE, shown_args, shown_name
from orchestrator.plan import Plan
from orchestrator.records import Lease, Record
from providers.base import MIB
from providers.schemes import parse
from workers import rows
from workers.rows import LaneRow, Row, place


def lease(part: int) -> Lease:
    return Lease("s0-1", str(part), "1.aa", 1, 0, 1)


def ends() -> Any:
    """As much of two endpoints as a row looks at."""
    plan = Plan(size_bytes=10_000 * MIB, part_size_bytes=MIB, part_count=10_000, stream=False)
    source = parse("https://example.org/private/a.iso?X-Signature=canary", "source")
    target = parse("s3://backups/private/a.iso", "destination")
    record = Record("s0-1", {"q": "haulage.data"})
    return SimpleNamespace(plan=plan, record=record, source_location=source, destination_location=target)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Somebody watches; what would be sent."""
    sent: list[tuple[str, dict[str, Any]]] = []
    dispatcher = SimpleNamespace(enabled=True, groups={"worker", "task"}, send=lambda kind, **f: sent.append((kind, f)))
    monkeypatch.setattr(rows, "_consumer", SimpleNamespace(event_dispatcher=dispatcher))
    return sent


def moved(*parts: int) -> LaneRow:
    row = LaneRow("task-1")
    for part in parts:
        row.claimed(lease(part), ends())
        row.stored(part, MIB, 0.01)
    return row


def test_a_task_of_several_parts_names_them(sent: list[Any]) -> None:
    assert saferepr(moved(5, 9, 12)) == (
        "parts 5, 9, 12 of 10000 · 3.0 MiB at 100.0 MiB/s · data · example.org -> s3:backups"
    )
    assert saferepr(moved(*range(1, 41))).startswith("parts 1, 2, 3, 4, 5, 6, 7, 8 and 32 more of 10000 · 40.0 MiB")


def test_while_it_runs_it_says_at_most_once_a_second_what_it_does(sent: list[Any]) -> None:
    moved(5, 9, 12)

    assert sent == [("task-progress", {"uuid": "task-1", "result": "part 5/10000 · data · example.org -> s3:backups"})]


def test_a_task_that_moved_nothing_says_why(sent: list[Any]) -> None:
    row = LaneRow("task-1")
    assert saferepr(row) == "nothing left"
    row.claimed(lease(3), ends())
    row.left(lease(3), "throttled (retry)")
    assert saferepr(row).startswith("part 3/10000: throttled (retry) · data · ")


@pytest.mark.parametrize("groups", [{"worker"}, None], ids=["heartbeats only", "no worker yet"])
def test_nothing_is_made_or_sent_when_nobody_watches(groups: set[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = SimpleNamespace(enabled=True, groups=groups)  # no send: it would fail
    consumer = SimpleNamespace(event_dispatcher=dispatcher) if groups else None
    monkeypatch.setattr(rows, "_consumer", consumer)

    assert saferepr(moved(5, 9, 12)) == ""


def test_a_chord_stores_null_for_it(sent: list[Any]) -> None:
    assert dumps([1, "id", "SUCCESS", moved(5)]) == '[1, "id", "SUCCESS", null]'
    assert dumps(Row("completed")) == "null"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://Example.org:8443/a?sig=1", "example.org:8443"),
        ("s3://bucket/a/b", "s3:bucket"),
        ("file://moon/a/b", "file:moon"),
        ("mem:secret-name", "mem"),
    ],
)
def test_a_place_is_a_host_and_nothing_below_it(url: str, shown: str) -> None:
    assert place(parse(url, "source")) == shown


def test_names_tell_pools_apart_and_nothing_more() -> None:
    """Each name is a label of a metric: a transfer or a machine in it would make more of them without end."""
    queues = ("haulage.data", "haulage.express", "haulage.host.moon", "haulage.host.sun.express")

    assert [shown_name(PART, queue) for queue in queues] == [
        "haulage.part[data]",
        "haulage.part[express]",
        "haulage.part[host]",
        "haulage.part[host]",
    ]
    assert shown_name(COMPLETE, "haulage.control") == "haulage.complete"
    assert shown_args(PART, ("s0-1", 1, 2, 3, 4)) == "s0-1 round 2 lane 3"
    assert shown_args(COMPLETE, ("s0-1", 2)) == "s0-1 round 2"
    assert shown_args(PREPARE, ("s0-1", 2)) == "s0-1"
