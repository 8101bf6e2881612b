"""Completion in the shell: its script, and transfer ids from the ledger."""

from __future__ import annotations

import threading
from contextlib import suppress

import click
from click.shell_completion import CompletionItem, get_completion_class

_PATIENCE_SECONDS = 2.0
"""Importing what asks takes most of it."""
_MOST = 50


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and transfer ids.

    \b
    bash:  haulage completion bash > ~/.local/share/bash-completion/completions/haulage
    zsh:   haulage completion zsh > ~/.zfunc/_haulage     (with ~/.zfunc in fpath)
    fish:  haulage completion fish > ~/.config/fish/completions/haulage.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows the three shells that the choice allows
    script = kind(ctx.find_root().command, {}, "haulage", "_HAULAGE_COMPLETE")
    click.echo(script.source_template % script.source_vars())


def complete_ids(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest transfers with their states. Whatever goes wrong, a shell that completes shows no error."""
    found: list[CompletionItem] = []
    asking = threading.Thread(target=_ask, args=(found,), daemon=True)
    asking.start()
    asking.join(_PATIENCE_SECONDS)
    return [each for each in found if str(each.value).startswith(incomplete)]


def _ask(found: list[CompletionItem]) -> None:
    with suppress(Exception):
        from haulage.cli.output import ledger_settings
        from haulage.client import TransferClient

        settings = ledger_settings()
        if settings is not None:
            with TransferClient(settings) as client:
                newest = client.list(limit=_MOST)
            found += [CompletionItem(each.transfer_id, help=f"{each.state} {each.destination}") for each in newest]
