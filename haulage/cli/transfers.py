"""``submit``, ``ls``, ``show``, ``wait``, ``pause``, ``resume``, ``cancel``, ``retry``, ``events``."""

from __future__ import annotations

import os
from typing import Any

import click

from haulage.cli.follow import follow
from haulage.cli.output import as_dict, errors_as_sentences, human_bytes, line, open_client, print_json
from orchestrator.states import State

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document per line on stdout.")


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--source-profile")
@click.option("--destination-profile")
@click.option("--on-exists", type=click.Choice(["fail", "skip", "overwrite"]))
@click.option("--checksum", help="Expected checksum of the object: algo:hex with md5, sha1, sha256 or sha512.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="HTTP header; may be repeated.")
@click.option("--parts-in-flight", type=int)
@click.option("--part-size", help="Bytes, or 8MiB.")
@click.option("--copy", type=click.Choice(["auto", "relay", "server"]))
@click.option("--keep-partial", is_flag=True, default=None, help="Cancel keeps the temporary file or upload.")
@click.option("--reference", help="Your own name for the transfer.")
@click.option("--idempotency-key")
@click.option("--tenant")
@click.option("--priority", type=int)
@click.option("--pool")
@click.option("--paused", is_flag=True, help="Register it; it starts with `haulage resume`.")
@click.option("--wait", "wait_for_it", is_flag=True, help="Stay until it has ended.")
@json_option
@errors_as_sentences
def submit(
    source: str,
    destination: str,
    headers: tuple[str, ...],
    paused: bool,
    wait_for_it: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Queue a transfer from SOURCE to DESTINATION and print its id. A plain path means a file on this machine."""
    given = {name: value for name, value in options.items() if value is not None}
    if headers:
        given["headers"] = dict(_header(each) for each in headers)
    with open_client() as client:
        send = client.submit_paused if paused else client.submit
        transfer_id = send(_place(source), _place(destination), **given)
        if wait_for_it:
            transfer = follow(client, transfer_id)
            print_json(as_dict(transfer)) if as_json else click.echo(line(transfer))
        else:
            print_json({"transfer_id": transfer_id}) if as_json else click.echo(transfer_id)


@click.command()
@click.option("--state", type=click.Choice([str(each) for each in State]))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@errors_as_sentences
def ls(state: str | None, limit: int, as_json: bool) -> None:
    """List transfers, newest first."""
    with open_client() as client:
        for transfer in client.list(state=state, limit=limit):
            print_json(as_dict(transfer)) if as_json else click.echo(line(transfer))


@click.command()
@click.argument("transfer_id")
@json_option
@errors_as_sentences
def show(transfer_id: str, as_json: bool) -> None:
    """Show one transfer: state, parts, why it waits, and its failed attempts."""
    with open_client() as client:
        transfer, history = client.get(transfer_id), client.history(transfer_id)
    if as_json:
        print_json({**as_dict(transfer), "history": history})
        return
    click.echo(line(transfer))
    if transfer.error and not transfer.state.final:
        click.echo(f"  error: {transfer.error.get('code')}: {transfer.error.get('message')}")
    for name, value in transfer.result.items():
        if value in ("", None):
            continue
        click.echo(f"  {name}: {human_bytes(value) if name == 'size_bytes' else value}")
    for entry in history:
        detail = entry.get("message", "")
        what = f"part {entry['part']}" if entry.get("part") else "prepare"
        where = f"{what} attempt {entry.get('attempt')}"
        click.echo(f"  {where}: {entry.get('code')} {detail} ({entry.get('process')})")


@click.command()
@click.argument("transfer_id")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds; default: as long as it takes.")
@json_option
@errors_as_sentences
def wait(transfer_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a transfer has ended. Exit 0 only if it completed."""
    with open_client() as client:
        transfer = follow(client, transfer_id, timeout_seconds=timeout)
        print_json(as_dict(transfer)) if as_json else click.echo(line(transfer))


@click.command()
@click.argument("transfer_id")
@click.option("--after", default="0", help="Position to read after, as printed before.")
@errors_as_sentences
def events(transfer_id: str, after: str) -> None:
    """Print events as JSON, one per line, past ones first, until the transfer has ended."""
    with open_client() as client:
        for event in client.events(transfer_id, after=after):
            print_json({"position": event.position, "kind": event.kind, "at_ms": event.at_ms, **event.data})


def _steering(action: str, text: str) -> click.Command:
    @click.command(name=action, help=text)
    @click.argument("transfer_id")
    @json_option
    @errors_as_sentences
    def command(transfer_id: str, as_json: bool) -> None:
        with open_client() as client:
            state = getattr(client, action)(transfer_id)
        print_json({"transfer_id": transfer_id, "state": state}) if as_json else click.echo(state)

    return command


def _place(text: str) -> str:
    """A relative path means one below the working folder."""
    return (
        text
        if ":" in text.split("/")[0] or text.startswith("/")
        else os.path.abspath(text) + ("/" if text.endswith("/") else "")
    )


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{name!r}: write NAME=VALUE", param_hint="--header")
    return name, value


pause = _steering("pause", "Pause a transfer; its parts are handed back and what is stored stays.")
resume = _steering("resume", "Queue a paused transfer again.")
cancel = _steering("cancel", "Cancel a transfer and remove what it stored so far.")
retry = _steering("retry", "Queue a failed transfer again; stored parts are kept.")
