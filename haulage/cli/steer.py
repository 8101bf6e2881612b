"""``pause``, ``resume``, ``cancel``, ``retry``: of some transfers by id, or of all that fit a filter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from haulage.cli.options import filter_options, given, ids_argument
from haulage.cli.output import (
    errors_as_sentences,
    json_option,
    open_client,
    print_json,
    say_error,
    tell_if_older,
)

if TYPE_CHECKING:
    from orchestrator.states import State

_MANY = 10_000


def _steering(action: str, done: str, text: str) -> click.Command:
    @click.command(name=action, help=f"{text}\n\n\b\nhaulage {action} s0-4f1c2a9b7de3\nhaulage {action} --all --yes")
    @ids_argument
    @click.option("--all", "every", is_flag=True, help="All that fit the filters, instead of ids.")
    @filter_options
    @click.option("--yes", "-y", is_flag=True, help="With --all: do not ask.")
    @json_option
    @errors_as_sentences
    def command(transfer_ids: tuple[str, ...], every: bool, yes: bool, as_json: bool, **filters: Any) -> None:
        chosen = given(filters)
        if bool(transfer_ids) == every:
            raise click.UsageError("name transfers by their ids, or say --all" if not every else "either ids or --all")
        if chosen and not every:
            raise click.UsageError("filters go with --all")
        fine = _steer_all(action, chosen, yes, as_json) if every else _steer_each(action, transfer_ids, as_json)
        sys.exit(0 if fine else 1)

    command.short_help = text.partition(".")[0]
    command.epilog = f"Prints each id with its new state; with --all, how many were {done}."
    return command


def _steer_each(action: str, transfer_ids: tuple[str, ...], as_json: bool) -> bool:
    """One after the other; what is refused is said and does not hold up the rest."""
    from orchestrator.errors import HaulageError, LedgerUnavailable

    fine = True
    with open_client() as client:
        if action in ("resume", "retry"):
            tell_if_older(client)
        for each in transfer_ids:
            try:
                state = getattr(client, action)(each)
            except LedgerUnavailable:
                raise
            except HaulageError as exc:
                fine = False
                say_error(exc)
                continue
            if action in ("resume", "retry"):
                client.keep(each)
            print_json({"transfer_id": each, "state": state}) if as_json else click.echo(f"{each} {state}")
    return fine


def _steer_all(action: str, filters: dict[str, Any], yes: bool, as_json: bool) -> bool:
    """False if one that could be steered when it was listed was refused."""
    with open_client() as client:
        if not yes and sys.stdin.isatty():
            count = len(client.list(**{"state": _concerned(action), **filters}, limit=_MANY))
            if count:
                click.confirm(f"{action} {_transfers(count)}?", abort=True, err=True)
        result = getattr(client, f"{action}_all")(**filters)
        for each in result.changed:
            if action in ("resume", "retry"):
                client.keep(each)
            print_json({"transfer_id": each, "state": client.get(each).state}) if as_json else click.echo(each)
        for each, code in result.refused.items():
            click.echo(f"{each}: {code}", err=True)
        click.echo(f"{action}: {_transfers(len(result.changed))}", err=True)
    return not result.refused


def _concerned(action: str) -> list[State]:
    """The states that an action on all is about, where no state is asked for."""
    from orchestrator.states import State

    live: list[State] = [each for each in State if not each.ended and each is not State.PAUSED]
    concerned = {"pause": live, "cancel": [*live, State.PAUSED], "resume": [State.PAUSED], "retry": [State.FAILED]}
    return concerned[action]


def _transfers(count: int) -> str:
    return "1 transfer" if count == 1 else f"{count} transfers"


pause = _steering("pause", "paused", "Pause transfers. Their parts are handed back, and what is stored stays.")
resume = _steering("resume", "resumed", "Queue paused transfers again. They go on where they stopped.")
cancel = _steering("cancel", "cancelled", "Cancel transfers. What they stored so far is removed.")
retry = _steering("retry", "queued again", "Queue failed transfers again. Stored parts are kept.")
