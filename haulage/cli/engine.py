"""``haulage engine status|stop``: the one-machine engine that commands start by themselves."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from haulage.cli.output import errors_as_sentences, json_option, print_json

if TYPE_CHECKING:
    from haulage.engine import EngineStatus


@click.group()
def engine() -> None:
    """Look at or stop the engine of this machine.

    Without HAULAGE_REDIS_URL, commands share one engine: a private Valkey and a worker in the background. It starts
    when it is needed and leaves some time after the last command (HAULAGE_ENGINE_LINGER_SECONDS).
    """


@engine.command()
@json_option
@errors_as_sentences
def status(as_json: bool) -> None:
    """Say whether the engine runs. Exit 0 if it does, else 1; starts nothing."""
    from haulage.engine import status as ask
    from orchestrator.settings import load_settings

    found = ask(load_settings())
    if as_json:
        print_json({"running": False} if found is None else {"running": True, **dataclasses.asdict(found)})
    elif found is None:
        click.echo("the engine does not run")
    else:
        _show(found)
    sys.exit(0 if found else 1)


@engine.command()
@json_option
@errors_as_sentences
def stop(as_json: bool) -> None:
    """Stop the engine. Transfers that nobody asked to keep are paused; nothing that is stored is lost."""
    from haulage.engine import stop as end
    from orchestrator.settings import load_settings

    ran = end(load_settings())
    if as_json:
        print_json({"stopped": ran})
    else:
        click.echo("stopped" if ran else "the engine did not run")


def _show(found: EngineStatus) -> None:
    since = datetime.fromtimestamp(found.started_at, UTC).astimezone()
    rows = {
        "engine": f"{found.state}, process {found.pid}, haulage {found.version}, since {since:%Y-%m-%d %H:%M:%S}",
        "clients": found.lifelines,
        "redis": f"{found.redis_url} ({found.valkey}, process {found.valkey_pid})",
        "workers": f"processes {', '.join(str(each) for each in found.worker_pids)}",
        "folder": found.folder,
        "log": found.log_file,
    }
    for name, value in rows.items():
        click.echo(f"{name + ':':<9}{value}")
