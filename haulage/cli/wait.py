"""``wait`` and ``events``: stay until transfers have ended, or read what happens."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from haulage.cli.completion import complete_ids
from haulage.cli.options import ids_argument
from haulage.cli.output import (
    errors_as_sentences,
    human_bytes,
    is_embedded,
    json_option,
    open_client,
    print_json,
    printable,
    report,
    say_error,
)

if TYPE_CHECKING:
    from haulage.client import TransferClient
    from orchestrator.events import Event
    from orchestrator.views import Transfer


@click.command()
@ids_argument
@click.option("--timeout", type=click.FloatRange(0), help="Seconds for all; default: as long as it takes.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors while it waits.")
@json_option
@errors_as_sentences
def wait(transfer_ids: tuple[str, ...], timeout: float | None, quiet: bool, as_json: bool) -> None:
    """Wait until transfers have ended. Exit 0 only if all completed. Ctrl-C leaves them running.

    \b
    haulage wait s0-4f1c2a9b7de3 && echo arrived
    haulage wait $(haulage submit a.iso /srv/) $(haulage submit b.iso /srv/)
    """
    from orchestrator.errors import TransferCancelled, TransferFailed, TransferNotFound, WaitTimeout

    if not transfer_ids:
        raise click.UsageError("name transfers by their ids")
    deadline = None if timeout is None else time.monotonic() + timeout
    failed = False
    with open_client() as client:
        for each in transfer_ids:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                _wait_for(client, each, left, quiet=quiet, as_json=as_json)
            except (TransferFailed, TransferCancelled, TransferNotFound) as exc:
                failed = True
                say_error(exc)
            except WaitTimeout:
                raise WaitTimeout(f"transfer {each} is still {client.get(each).state} after {timeout:g} s") from None
    sys.exit(1 if failed else 0)


def _wait_for(client: TransferClient, transfer_id: str, seconds: float | None, *, quiet: bool, as_json: bool) -> None:
    from haulage.cli.follow import follow

    def ended() -> Transfer:
        return follow(client, transfer_id, quiet=quiet, timeout_seconds=seconds)

    report(client, transfer_id, ended, as_json=as_json)


@click.command()
@click.argument("transfer_id", metavar="[ID]", required=False, shell_complete=complete_ids)
@click.option("--after", metavar="POSITION", default="0", help="Only what came after this position.")
@click.option("--kinds", metavar="KIND,...", help="Only these kinds, such as completed,failed.")
@click.option("--follow/--no-follow", default=True, help="Stay for what comes, or end with what is there.")
@json_option
@errors_as_sentences
def events(transfer_id: str | None, after: str, kinds: str | None, follow: bool, as_json: bool) -> None:
    """Print events, past ones first: of one transfer until it has ended, or without ID those of all transfers.

    On a terminal one row each; elsewhere, or with --json, one JSON document per line. Its `position` is what --after
    takes.

    \b
    haulage events s0-4f1c2a9b7de3
    haulage events --kinds completed,failed --json
    """
    chosen = _chosen(kinds) if kinds else None
    rows = sys.stdout.isatty() and not as_json
    try:
        with open_client() as client:
            if transfer_id and follow:
                _say_if_unserved(client, transfer_id)
            for event in client.events(transfer_id, after=after, kinds=chosen, follow=follow):
                if rows:
                    click.echo(_row(event))
                else:
                    named = {"transfer_id": event.transfer_id, "kind": event.kind, "at_ms": event.at_ms}
                    print_json({"position": event.position, **named, **event.data})
    except KeyboardInterrupt:
        sys.exit(0)  # the way to leave what never ends


def _say_if_unserved(client: TransferClient, transfer_id: str) -> None:
    """Where nobody moves it, no event would come and none would tell why."""
    from haulage.cli.closer import Details
    from haulage.cli.phrases import phrase

    transfer = client.get(transfer_id)
    if transfer.reason == "no_worker" and not is_embedded(client):
        click.echo(f"{transfer_id}: {phrase(transfer, Details())}", err=True)


def _chosen(kinds: str) -> list[str]:
    from orchestrator.events import KINDS

    chosen = [each.strip() for each in kinds.split(",") if each.strip()]
    for each in chosen:
        if each not in KINDS:
            raise click.BadParameter(f"{each!r}: write some of {', '.join(KINDS)}", param_hint="--kinds")
    return chosen


def _row(event: Event) -> str:
    at = datetime.fromtimestamp(event.at_ms / 1000).astimezone().strftime("%H:%M:%S")
    part = f"part {event.data['part']}: " if event.data.get("part") else ""
    told = [str(event.data[name]) for name in ("code", "message", "reason", "state") if event.data.get(name)]
    facts = (_fact(name, value) for name, value in event.data.items() if value not in ("", None))
    text = part + ": ".join(told) if told else ", ".join(facts)
    return printable(f"{at}  {event.transfer_id}  {event.kind:<10} {text}".rstrip())


def _fact(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{name.removesuffix('_bytes')} {human_bytes(value)}"
    return f"{name} {value}"
