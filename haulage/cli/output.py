"""How the command line talks: JSON or plain rows on stdout, one sentence per error on stderr."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from orchestrator.client import Transfer, TransferClient
from orchestrator.errors import HaulageError, InvalidSpec, TransferFailed
from orchestrator.settings import load_settings

P = ParamSpec("P")
R = TypeVar("R")

_HINTS = {
    "ledger_unavailable": "start Redis, or set HAULAGE_REDIS_URL",
    "duplicate": "haulage show ID tells what that transfer does; cancel it or wait for it",
    "destination_exists": "--on-exists overwrite or skip",
    "transfer_not_found": "haulage ls lists the transfers that are known",
    "file_not_found": "look whether the file is on the machine that the URL names",
    "checksum_mismatch": "compare the checksum you gave with the one the publisher names",
    "transport": "haulage retry ID once the other side is back; stored parts are kept",
    "forbidden": "look at the profile's credentials and permissions",
    "wait_timeout": "haulage wait ID again; the transfer goes on",
    "invalid_state": "haulage show ID tells its state",
}

_REDIS_PATIENCE_SECONDS = 1.0
"""Somebody sits before the screen: a Redis that is not there is better named soon than waited for."""


def open_client() -> TransferClient:
    """A client for one command."""
    return TransferClient(load_settings(redis_retry_seconds=_REDIS_PATIENCE_SECONDS))


def errors_as_sentences(command: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into their code, one sentence and what to try; exit 2 for refused values, else 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except HaulageError as exc:
            text = f"transfer {exc.transfer_id} failed: {exc.message}" if isinstance(exc, TransferFailed) else exc
            click.echo(f"{exc.code}: {text}", err=True)
            if hint := _HINTS.get(exc.code):
                click.echo(f"try: {hint}", err=True)
            sys.exit(2 if isinstance(exc, InvalidSpec) else 1)

    return run


def as_dict(transfer: Transfer) -> dict[str, Any]:
    """For ``--json``."""
    return dataclasses.asdict(transfer)


def print_json(value: Any) -> None:
    """One JSON document per line."""
    click.echo(json.dumps(value, default=str))


def human_bytes(count: float | None) -> str:
    """``1.5 GiB``; a dash for what is not known."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return "-"


def line(transfer: Transfer) -> str:
    """One row of ``ls``."""
    progress = transfer.progress
    state = f"{transfer.state} ({transfer.reason})" if transfer.reason else str(transfer.state)
    size = f"{human_bytes(progress.durable_bytes)} / {human_bytes(progress.total_bytes)}"
    parts = f"{progress.parts_done}/{progress.part_count}"
    return f"{transfer.transfer_id}  {state:<12} {size:>22} {parts:>11}  {transfer.source} -> {transfer.destination}"
