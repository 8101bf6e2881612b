"""Transfers as rows: coloured and fitted on a terminal, tab-separated elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from haulage.cli.bar import Marks, bar, percent, rate
from haulage.cli.output import human_bytes, human_seconds, printable
from haulage.cli.phrases import ago
from haulage.cli.table import Cell, Column
from orchestrator.states import State

if TYPE_CHECKING:
    from orchestrator.views import Transfer

STYLES = {
    State.QUEUED: "bright_black",
    State.PREPARING: "cyan",
    State.RUNNING: "bold cyan",
    State.WAITING: "yellow",
    State.COMPLETING: "cyan",
    State.COMPLETED: "green",
    State.FAILED: "bold red",
    State.PAUSED: "magenta",
    State.CANCELLED: "bright_black",
}

_BAR = 12

LISTED = (
    Column("ID"),
    Column("STATE"),
    Column("DONE", right=True),
    Column("SIZE", right=True, drop=1),
    Column("PARTS", right=True, drop=3),
    Column("AGE", right=True, drop=2),
    Column("FROM", grow=True),
    Column("TO", grow=True),
)
WATCHED = (
    Column("ID", drop=2),
    Column("STATE"),
    Column("", drop=3),
    Column("DONE", right=True),
    Column("RATE", right=True),
    Column("LEFT", right=True),
    Column("SIZE", right=True, drop=1),
    Column("PARTS", right=True, drop=4),
    Column("FROM", grow=True, drop=5),
    Column("TO", grow=True),
)


def state_cell(transfer: Transfer) -> Cell:
    """The state with its reason; a transfer that was skipped says so."""
    style = STYLES[transfer.state]
    if transfer.result.get("skipped"):
        return "skipped", style
    if transfer.state is State.FAILED:
        return f"failed: {transfer.error.get('code', 'unknown')}", style
    if transfer.reason:
        return f"{transfer.state}: {transfer.reason}", STYLES[State.WAITING]
    return str(transfer.state), style


def listed(transfer: Transfer, host: str) -> list[Cell]:
    """A row of ``LISTED``; files of ``host`` are shown by their path alone."""
    progress = transfer.progress
    return [
        (transfer.transfer_id, ""),
        state_cell(transfer),
        (_done(transfer), ""),
        (human_bytes(_size(transfer)), ""),
        (f"{progress.parts_done}/{progress.part_count}" if progress.part_count else "-", ""),
        (ago(transfer.created_at), "bright_black"),
        (place(transfer.source, host), ""),
        (place(landing(transfer), host), ""),
    ]


def watched(transfer: Transfer, host: str) -> list[Cell]:
    """A row of ``WATCHED``; its progress has rates."""
    progress = transfer.progress
    moves = transfer.state is State.RUNNING
    drawn = bar(progress, _BAR, Marks()).plain if progress.part_count and not transfer.state.ended else ""
    return [
        (transfer.transfer_id, ""),
        state_cell(transfer),
        (drawn, "cyan"),
        (_done(transfer), ""),
        (rate(progress) if moves else "-", ""),
        (human_seconds(progress.eta_seconds) if moves else "-", ""),
        (human_bytes(_size(transfer)), ""),
        (f"{progress.parts_done}/{progress.part_count}" if progress.part_count else "-", ""),
        (place(transfer.source, host), "bright_black"),
        (place(landing(transfer), host), ""),
    ]


def tabbed(transfer: Transfer) -> str:
    """For programs: id, state, reason, durable bytes, total bytes, source, destination; unknown is empty."""
    progress = transfer.progress
    size = _size(transfer)
    fields = (
        transfer.transfer_id,
        transfer.state,
        transfer.reason,
        progress.durable_bytes,
        "" if size is None else size,
    )
    return "\t".join(map(str, (*fields, printable(transfer.source), printable(transfer.destination))))


def _done(transfer: Transfer) -> str:
    if not transfer.progress.part_count and transfer.state is not State.COMPLETED:
        return "-"
    return "100%" if transfer.state is State.COMPLETED else percent(transfer.progress)


def _size(transfer: Transfer) -> int | None:
    size = transfer.progress.total_bytes
    known = transfer.result.get("size_bytes") if size is None or not transfer.progress.part_count else size
    return int(known) if known is not None else None


def landing(transfer: Transfer) -> str:
    """The destination with the object's name, where it was given as a folder."""
    if not transfer.destination.endswith("/"):
        return transfer.destination
    return transfer.destination + str(transfer.result.get("name") or name_of(transfer))


def name_of(transfer: Transfer) -> str:
    """The last word of the source: what a person calls the object."""
    last = transfer.source.partition("?")[0].rstrip("/").rpartition("/")[2]
    return unquote(last) or transfer.transfer_id


def place(url: str, host: str) -> str:
    """A file of ``host`` by its path: on its own terminal more would say nothing."""
    own = url.startswith(f"file://{host}/")
    return printable(unquote(url.removeprefix(f"file://{host}")) if own else url)
