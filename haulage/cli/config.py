"""``haulage config``: every setting, its value and where it comes from; secrets are masked."""

from __future__ import annotations

import os
from typing import Any

import click

from haulage.cli.output import errors_as_sentences, json_option, print_json
from haulage.doctor.origins import Setting, origins, unknown_names
from orchestrator.settings import load_settings


@click.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings and where they come from. Alone it is `config show`."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@config.command()
@json_option
@errors_as_sentences
def show(as_json: bool) -> None:
    """Print every setting, its value, and where it comes from. Passwords and secrets are masked.

    Names that start with HAULAGE_ and mean nothing, and unknown keys of the TOML file, are named on stderr.
    """
    settings = origins(load_settings(), os.environ)
    warnings = unknown_names(os.environ)
    if as_json:
        print_json({"settings": [_as_dict(each) for each in settings], "warnings": warnings})
    else:
        width = max(len(each.name) for each in settings)
        for each in settings:
            click.echo(f"{each.name:<{width}}  {each.shown}  ({each.origin})")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@config.command()
@errors_as_sentences
def path() -> None:
    """Print the path of the TOML file in use. Exit 1 if there is none."""
    found = os.environ.get("HAULAGE_CONFIG")
    if not found:
        click.echo("no TOML file is in use; name one in HAULAGE_CONFIG", err=True)
        raise SystemExit(1)
    load_settings()
    click.echo(os.path.abspath(found))


def _as_dict(setting: Setting) -> dict[str, Any]:
    return {"name": setting.name, "value": setting.value, "origin": setting.origin, "variable": setting.variable}
