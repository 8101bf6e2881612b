"""``ls``: the transfers, newest first."""

from __future__ import annotations

import sys
from typing import Any

import click

from haulage.cli.options import filter_options, given
from haulage.cli.output import (
    as_dict,
    console,
    errors_as_sentences,
    json_option,
    open_client,
    print_json,
    terminal_width,
)


@click.command()
@filter_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most this many.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="Which LIMIT of them, from 1.")
@json_option
@errors_as_sentences
def ls(limit: int, page: int, as_json: bool, **filters: Any) -> None:
    """List transfers, newest first.

    On a terminal a table that fits it. Elsewhere rows of id, state, reason, stored bytes, total bytes, source and
    destination, with tabs between them.

    \b
    haulage ls --state failed
    haulage ls --reference nightly --json
    """
    from haulage.cli.rows import LISTED, listed, tabbed
    from haulage.cli.table import lay_out

    with open_client() as client:
        host = client.settings.host
        found = client.list(**given(filters), limit=limit, start=(page - 1) * limit)
    if as_json:
        for each in found:
            print_json(as_dict(each))
    elif not sys.stdout.isatty():
        for each in found:
            click.echo(tabbed(each))
    elif found:
        out = console()
        for row in lay_out(LISTED, [listed(each, host) for each in found], terminal_width(sys.stdout)):
            out.print(row)
    else:
        click.echo("no transfers" if page == 1 else "no more transfers", err=True)
    if len(found) == limit and sys.stdout.isatty() and not as_json:
        click.echo(f"more: haulage ls --page {page + 1}", err=True)
