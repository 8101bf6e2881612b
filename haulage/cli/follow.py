"""Waits for a transfer and says on stderr what it does; Ctrl-C leaves it running and says so."""

from __future__ import annotations

import sys
import time

import click

from haulage.cli.output import human_bytes
from orchestrator.client import Transfer, TransferClient
from orchestrator.errors import WaitTimeout
from orchestrator.progress import Meter

_EVERY_SECONDS = 0.5


def follow(client: TransferClient, transfer_id: str, *, timeout_seconds: float | None = None) -> Transfer:
    """Like ``TransferClient.wait``. On a terminal one line that moves; elsewhere a line for each new state."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    meter, said, live = Meter(), "", sys.stderr.isatty()
    try:
        while True:
            left = _EVERY_SECONDS if deadline is None else min(_EVERY_SECONDS, max(0.0, deadline - time.monotonic()))
            try:
                return client.wait(transfer_id, timeout_seconds=left)
            except WaitTimeout:
                transfer = client.get(transfer_id)
                if deadline is not None and time.monotonic() >= deadline:
                    text = f"transfer {transfer_id} is still {transfer.state} after {timeout_seconds:g} s"
                    raise WaitTimeout(text) from None
            text = _state(transfer)
            if live:
                click.echo(f"\r\x1b[K{transfer_id} {text}  {_progress(meter, transfer)}", nl=False, err=True)
            elif text != said:
                click.echo(f"{transfer_id} is {text}", err=True)
            said = text
    except KeyboardInterrupt:
        if live:
            click.echo(err=True)
        click.echo(f"{transfer_id} goes on without this command: haulage wait {transfer_id}", err=True)
        sys.exit(1)
    finally:
        if live and said:
            click.echo("\r\x1b[K", nl=False, err=True)


def _state(transfer: Transfer) -> str:
    if transfer.reason == "no_worker":
        return f"{transfer.state}: no worker serves its queue; start one with `haulage worker`"
    return f"{transfer.state} ({transfer.reason})" if transfer.reason else str(transfer.state)


def _progress(meter: Meter, transfer: Transfer) -> str:
    progress = meter.sample(time.monotonic(), transfer.progress)
    if not progress.part_count:
        return ""
    size = f"{human_bytes(progress.received_bytes)} of {human_bytes(progress.total_bytes)}"
    eta = "" if progress.eta_seconds is None else f", {progress.eta_seconds:.0f} s left"
    parts = f"parts {progress.parts_done}/{progress.part_count}"
    return f"{size}, {parts}, {human_bytes(progress.smoothed_bytes_per_second)}/s{eta}"
