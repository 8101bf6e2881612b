"""``show``: one transfer, why it waits, who works on it, and what failed, grouped."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from haulage.cli.options import id_argument
from haulage.cli.output import (
    as_dict,
    console,
    errors_as_sentences,
    human_bytes,
    human_seconds,
    is_embedded,
    json_option,
    open_client,
    print_json,
    printable,
)

if TYPE_CHECKING:
    from haulage.cli.closer import Details
    from haulage.client import TransferClient
    from orchestrator.views import Transfer

_SAMPLE_SECONDS = 1.05
"""The client gives rates over a second and more: workers report that often."""
_NAMED_PARTS = 5
History = Sequence[Mapping[str, Any]]


@click.command()
@id_argument
@json_option
@errors_as_sentences
def show(transfer_id: str, as_json: bool) -> None:
    """Show one transfer: state, sizes, parts, rate, why it waits, its workers, and failed attempts by error.

    \b
    haulage show s0-4f1c2a9b7de3
    haulage show s0-4f1c2a9b7de3 --json | jq .progress
    """
    from haulage.cli.closer import CloserLook

    with open_client() as client:
        closer = CloserLook(client.settings)
        try:
            transfer, history = client.get(transfer_id), closer.history(transfer_id)
            details = closer.details(transfer_id)
            if not as_json:
                _print(_measured(client, transfer), details, history, client)
                return
        finally:
            closer.close()
    groups = [dataclasses.asdict(each) for each in grouped(history)]
    held = {str(number): process for number, (process, _) in sorted(details.parts.items())}
    print_json({**as_dict(transfer), "history": history, "failures": groups, "held": held})


@dataclasses.dataclass(slots=True)
class Failures:
    """Failed attempts with the same error, the newest first."""

    code: str
    count: int = 0
    parts: list[int] = dataclasses.field(default_factory=list)
    processes: list[str] = dataclasses.field(default_factory=list)
    message: str = ""
    last_at: float = 0.0
    """Unix seconds."""


def grouped(history: History) -> list[Failures]:
    """Failed attempts by code; the group of the newest one first. ``message`` is the newest one's."""
    groups: dict[str, Failures] = {}
    for entry in history:
        code = str(entry.get("code", "unknown"))
        group = groups.setdefault(
            code, Failures(code, message=str(entry.get("message", "")), last_at=entry.get("at", 0) / 1000)
        )
        group.count += 1
        if (part := entry.get("part")) and part not in group.parts:
            group.parts.append(part)
        if (process := entry.get("process")) and process not in group.processes:
            group.processes.append(process)
    return list(groups.values())


def _measured(client: TransferClient, transfer: Transfer) -> Transfer:
    """With a rate, if bytes move: that takes two looks."""
    from orchestrator.states import State

    if transfer.state is not State.RUNNING or not sys.stdout.isatty():
        return transfer
    time.sleep(_SAMPLE_SECONDS)
    return client.get(transfer.transfer_id)


def _print(transfer: Transfer, details: Details, history: History, client: TransferClient) -> None:
    from rich.text import Text

    from haulage.cli.bar import percent
    from haulage.cli.rows import STYLES

    state = "skipped" if transfer.result.get("skipped") else str(transfer.state)
    head = Text(transfer.transfer_id, "bold").append("  ").append(state, STYLES[transfer.state])
    if transfer.progress.part_count and not transfer.state.ended:
        head.append(f"  {percent(transfer.progress)}")
    out = console()
    out.print(head)
    for label, value in _facts(transfer, details, history, client):
        style = {"waits": "yellow", "error": "red"}.get(label, "")
        out.print(Text(f"  {label:<9}  ", "bright_black").append(value, style))
    for text in _failures(history):
        out.print(Text(text))


def _facts(transfer: Transfer, details: Details, history: History, client: TransferClient) -> Iterable[tuple[str, str]]:
    from haulage.cli.phrases import FRESH_SECONDS, phrase
    from haulage.cli.rows import landing, place

    host = client.settings.host
    yield "from", place(transfer.source, host)
    yield "to", place(landing(transfer), host)
    yield from _sizes(transfer)
    if not transfer.state.ended:
        fresh = bool(history) and time.time() - history[0].get("at", 0) / 1000 < FRESH_SECONDS
        why = phrase(transfer, details, history[0] if fresh else None, embedded=is_embedded(client))
        if why and why != transfer.state:
            yield "waits", why.removeprefix("waiting: ")
    if transfer.error and not transfer.state.final:
        yield "error", printable(f"{transfer.error.get('code')}: {transfer.error.get('message')}")
    if not transfer.state.ended:
        yield from _holders(details)
    for name, value in transfer.result.items():
        if value not in ("", None) and name not in ("size_bytes", "parts"):
            yield name, printable(str(value))
    if transfer.reference:
        yield "reference", printable(transfer.reference)
    if transfer.tenant != "default":
        yield "tenant", transfer.tenant
    yield "times", _times(transfer)


def _sizes(transfer: Transfer) -> Iterable[tuple[str, str]]:
    progress = transfer.progress
    if not progress.part_count and "size_bytes" in transfer.result:
        yield "size", human_bytes(transfer.result["size_bytes"])
    elif progress.part_count or progress.durable_bytes:
        flying = progress.received_bytes - progress.durable_bytes
        yield (
            "size",
            f"{human_bytes(progress.total_bytes)}, {human_bytes(progress.durable_bytes)} stored"
            + (f", {human_bytes(flying)} in flight" if flying > 0 else ""),
        )
        yield "parts", f"{progress.parts_done} of {progress.part_count}"
    if progress.smoothed_bytes_per_second:
        left = f", {human_seconds(progress.eta_seconds)} left" if progress.eta_seconds is not None else ""
        yield "rate", f"{human_bytes(progress.smoothed_bytes_per_second)}/s{left}"


def _holders(details: Details) -> Iterable[tuple[str, str]]:
    """Who works on what now; a process per row."""
    parts: dict[str, list[int]] = {}
    for number, (process, _) in sorted(details.parts.items()):
        parts.setdefault(process, []).append(number)
    for process, numbers in parts.items():
        yield "worker", f"{process}: {_named(numbers)}"
    for member, what in (("prep", "prepares it"), ("fin", "commits it"), ("abort", "cleans up")):
        if member in details.held:
            process, received = details.held[member]
            read = f", {human_bytes(received)} read" if received else ""  # to hash the whole
            yield "worker", f"{process}: {what}{read}"


def _failures(history: History) -> Iterable[str]:
    from haulage.cli.closer import HISTORY
    from haulage.cli.phrases import ago, short_message

    groups = grouped(history)
    if groups:
        yield "  failed attempts" + ("" if len(history) < HISTORY else f" (the last {len(history)})")
    for each in groups:
        parts = f" ({_named(each.parts)})" if each.parts else ""
        others = f" and {len(each.processes) - 1} more" if len(each.processes) > 1 else ""
        where = f" on {each.processes[0]}{others}" if each.processes else ""
        yield f"    {each.code} x{each.count}{parts}{where}, last {ago(each.last_at)} ago"
        yield f"      {printable(each.message) or short_message({'code': each.code})}"


def _named(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:_NAMED_PARTS]))
    return f"part{'s' if len(numbers) > 1 else ''} {named}" + ("…" if len(numbers) > _NAMED_PARTS else "")


def _times(transfer: Transfer) -> str:
    def clock(seconds: float) -> str:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")

    text = f"submitted {clock(transfer.created_at)}"
    if transfer.started_at:
        text += f", started after {human_seconds(transfer.started_at - transfer.created_at)}"
    if transfer.ended_at:
        text += f", ended after {human_seconds(transfer.ended_at - transfer.created_at)}"
    return text
