"""``haulage sessions``: uploads that are open at stores, and aborting those that nobody will ever complete."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from haulage.cli.output import (
    console,
    errors_as_sentences,
    json_option,
    open_client,
    print_json,
    printable,
    say_error,
    terminal_width,
)

if TYPE_CHECKING:
    from haulage.open_uploads import OpenUpload
    from orchestrator.ledger import Ledger

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def age(text: str) -> float:
    """``30m``, ``12h``, ``7d``, ``2w`` in seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no age: write 30m, 12h, 7d or 2w")
    return float(found[1]) * _UNITS[found[2]]


profile_option = click.option("--profile", metavar="NAME", help="Profile of this machine with the store's credentials.")


@click.group(invoke_without_command=True)
@click.pass_context
def sessions(ctx: click.Context) -> None:
    """List open uploads at stores, and abort forgotten ones. Alone it is `sessions ls`.

    A store keeps, and bills, the parts of an upload until it is completed or aborted.

    \b
    haulage sessions ls --older 7d
    haulage sessions abort s0-4f1c2a9b7de3 --yes
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls)


@sessions.command()
@click.argument("prefix", metavar="[PREFIX]", required=False)
@profile_option
@click.option("--older", type=age, default="0s", metavar="AGE", help="Only those opened this long ago: 12h, 7d.")
@json_option
@errors_as_sentences
def ls(prefix: str | None, profile: str | None, older: float, as_json: bool) -> None:
    """List the open uploads of the transfers that the ledger knows.

    With PREFIX, s3://bucket/prefix or oss://bucket/prefix, those that the store holds there: `known` where a transfer
    of this ledger opened it or writes to the object, else `unknown`. Off a terminal rows of known, transfer, its
    state, age in seconds, destination and upload id, with tabs between them.

    \b
    haulage sessions ls
    haulage sessions ls s3://bucket/in/ --profile store --older 1d
    """
    from haulage.open_uploads import StorePrefix, in_ledger

    if profile and not prefix:
        raise click.UsageError("--profile goes with a prefix, such as s3://bucket/")
    with _ledger() as ledger:
        all_found = StorePrefix(ledger.settings, prefix, profile).uploads(ledger) if prefix else in_ledger(ledger)
    found = [each for each in all_found if each.age_seconds >= older]
    if as_json:
        for each in found:
            print_json(_document(each))
    elif not sys.stdout.isatty():
        for each in found:
            click.echo(_tabbed(each))
    elif found:
        _table(found)
    else:
        click.echo("no open uploads", err=True)


@sessions.command()
@click.argument("target", metavar="PREFIX|ID")
@profile_option
@click.option("--older", type=age, metavar="AGE", help="Only those opened this long ago. Default: 7d.")
@click.option("--yes", "-y", is_flag=True, help="Abort them. Without it nothing is changed, only said.")
@json_option
@errors_as_sentences
def abort(target: str, profile: str | None, older: float | None, yes: bool, as_json: bool) -> None:
    """Abort uploads below PREFIX that the ledger does not know, or what the ended transfer ID left open.

    Says what it would do; --yes does it. Never one that a transfer of this ledger opened, nor one of an object that a
    transfer writes to which is not over. Other fleets with a Redis of their own may have uploads there too: choose
    PREFIX and --older so that none of theirs is among them. Exit 1 if one could not be aborted.

    \b
    haulage sessions abort s3://bucket/in/ --profile store
    haulage sessions abort s3://bucket/in/ --profile store --older 2d --yes
    haulage sessions abort s0-4f1c2a9b7de3 --yes
    """
    if ":" in target or "/" in target:
        fine = _abort_unknown(target, profile, _UNITS["w"] if older is None else older, yes, as_json)
        sys.exit(0 if fine else 1)
    if older is not None:
        raise click.UsageError("--older goes with a prefix: an id names the one upload")
    _abort_ended(target, profile, yes, as_json)


def _abort_unknown(prefix: str, profile: str | None, older: float, yes: bool, as_json: bool) -> bool:
    """One after the other; a refusal does not hold up the rest. False if there was one."""
    from haulage.open_uploads import StorePrefix
    from providers.errors import ProviderError

    with _ledger() as ledger:
        place = StorePrefix(ledger.settings, prefix, profile)
        found = place.uploads(ledger)
    unknown = [each for each in found if not each.known]
    chosen = [each for each in unknown if each.age_seconds >= older]
    failed = 0
    for each in chosen:
        try:
            if yes:
                place.drop(each)
        except ProviderError as exc:
            failed += 1
            _tell(each, "failed", as_json)
            say_error(exc)
        else:
            _tell(each, "aborted" if yes else "would abort", as_json)
    done = f"{len(chosen) - failed} aborted, {failed} failed" if yes else f"{len(chosen)} to abort: --yes does it"
    young = len(unknown) - len(chosen)
    click.echo(f"{done}; left alone: {len(found) - len(unknown)} known, {young} too young", err=True)
    return not failed


def _abort_ended(transfer_id: str, profile: str | None, yes: bool, as_json: bool) -> None:
    from haulage.open_uploads import drop_ended

    with _ledger() as ledger:
        found = drop_ended(ledger.settings, ledger, transfer_id, profile, really=yes)
    _tell(found, "aborted" if yes else "would abort", as_json)
    if not yes:
        click.echo("1 to abort: --yes does it", err=True)


@contextmanager
def _ledger() -> Iterator[Ledger]:
    """Also of an engine that has to be started: its ledger knows transfers that wait for it."""
    from orchestrator.connection import connect
    from orchestrator.ledger import Ledger

    with open_client() as client, connect(client.settings) as redis:
        yield Ledger(redis, client.settings)


def _document(upload: OpenUpload) -> dict[str, Any]:
    return {**asdict(upload), "age_seconds": round(upload.age_seconds)}


def _tell(upload: OpenUpload, outcome: str, as_json: bool) -> None:
    if as_json:
        print_json({**_document(upload), "outcome": outcome.replace(" ", "_")})
    else:
        opened = _when(upload.opened_at)
        click.echo(f"{outcome}: {printable(upload.destination)}, opened {opened}, upload {printable(upload.upload_id)}")


def _tabbed(upload: OpenUpload) -> str:
    known = "known" if upload.known else "unknown"
    fields = (known, upload.transfer_id, upload.state, round(upload.age_seconds), upload.destination, upload.upload_id)
    return "\t".join(printable(str(each)) for each in fields)


def _table(found: list[OpenUpload]) -> None:
    from haulage.cli.phrases import ago
    from haulage.cli.table import Column, lay_out

    columns = (
        Column("LEDGER"),
        Column("TRANSFER", drop=2),
        Column("STATE", drop=1),
        Column("OPENED", drop=3),
        Column("AGE", right=True),
        Column("DESTINATION", grow=True),
        Column("UPLOAD", drop=4),
    )
    rows = [
        [
            ("known", "") if each.known else ("unknown", "yellow"),
            (each.transfer_id or "-", ""),
            (each.state or "-", ""),
            (_when(each.opened_at), "bright_black"),
            (ago(each.opened_at), "bright_black"),
            (printable(each.destination), ""),
            (printable(each.upload_id), "bright_black"),
        ]
        for each in found
    ]
    out = console()
    for row in lay_out(columns, rows, terminal_width(sys.stdout)):
        out.print(row)


def _when(unix_seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_seconds))
