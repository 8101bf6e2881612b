"""``haulage doctor``: looks at Redis, the fleet, this machine and its profiles, and says what to do."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from haulage.cli.output import errors_as_sentences, json_option, print_json
from haulage.doctor.check import Check, Status
from haulage.doctor.run import GROUPS, diagnose, failed
from orchestrator.settings import load_settings

_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red"}


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(GROUPS),
    help="Only this group; may be repeated. `worker` asks whether the processes of this machine live, for a probe.",
)
@click.option("--bucket", help="List one key of this bucket with every S3 profile.")
@json_option
@errors_as_sentences
def doctor(only: tuple[str, ...], bucket: str | None, as_json: bool) -> None:
    """Look at Redis, the workers, this machine and its profiles. Exit 1 if anything is broken; a warning is no failure.

    With --json one document per check on stdout: name, status (ok, warn, fail), message, try_this.
    """
    checks = diagnose(load_settings(), only=only, bucket=bucket)
    for check in checks:
        print_json(asdict(check)) if as_json else say(check)
    if failed(checks):
        sys.exit(1)


def say(check: Check) -> None:
    """One check for people. Colours only on a terminal: click removes them elsewhere."""
    status = click.style(f"{check.status:<4}", fg=_COLOURS[check.status])
    click.echo(f"{status} {check.name}: {check.message}")
    if check.try_this:
        click.echo(f"     try: {check.try_this}")
