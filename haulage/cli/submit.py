"""``submit``: queue a transfer and print its id."""

from __future__ import annotations

from typing import Any

import click

from haulage.cli.options import destination_of, source_of, spec_of, spec_options
from haulage.cli.output import errors_as_sentences, json_option, open_client, print_json, report, tell_if_older


@click.command()
@click.argument("source")
@click.argument("destination")
@spec_options
@click.option("--paused", is_flag=True, help="Register it; it starts with `haulage resume`.")
@click.option("--wait", "wait_for_it", is_flag=True, help="Stay until it has ended.")
@json_option
@errors_as_sentences
def submit(source: str, destination: str, paused: bool, wait_for_it: bool, as_json: bool, **options: Any) -> None:
    """Queue a transfer from SOURCE to DESTINATION and print its id; it goes on without this command.

    A plain path means a file on this machine.

    \b
    haulage submit data.tar s3://bucket/data.tar --destination-profile archive
    haulage submit --wait https://example.org/big.iso /srv/images/
    haulage submit in.csv out.csv --notify myapp.tasks.arrived@default
    """
    from haulage.cli.follow import follow

    with open_client() as client:
        tell_if_older(client)
        send = client.submit_paused if paused else client.submit
        transfer_id = send(source_of(source), destination_of(destination), **spec_of(options))
        if not paused:
            client.keep(transfer_id)
        if wait_for_it:
            report(client, transfer_id, lambda: follow(client, transfer_id), as_json=as_json)
        else:
            print_json({"transfer_id": transfer_id}) if as_json else click.echo(transfer_id)
