"""``haulage worker``: the supervised worker of one machine."""

from __future__ import annotations

import os
import sys

import click

from haulage.cli.output import errors_as_sentences
from orchestrator.settings import load_settings


@click.command()
@click.option("--pools", help="Comma-separated pools to serve. Default: HAULAGE_POOLS (control,data,express).")
@click.option("--processes", type=click.IntRange(1, 256), help="Processes that move parts. Default: one per core.")
@click.option("--threads", type=click.IntRange(1, 256), default=8, show_default=True, help="Parts at once per process.")
@click.option("--grace", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to drain on SIGTERM.")
@errors_as_sentences
def worker(pools: str | None, processes: int | None, threads: int, grace: float) -> None:
    """Run this machine's worker until SIGTERM or Ctrl-C; then hand parts back and leave."""
    settings = load_settings()
    try:
        from workers.logs import configure_logs
        from workers.supervisor import Supervisor, plan_roles
    except ImportError as exc:
        raise click.ClickException(f"worker: {exc.name} is not installed; try: pip install 'haulage[worker]'") from None
    configure_logs(settings.log_level, settings.log_format)
    served = tuple(each.strip() for each in pools.split(",") if each.strip()) if pools else tuple(settings.pools)
    roles = plan_roles(served, processes or os.cpu_count() or 1, threads)
    sys.exit(Supervisor(roles, grace_seconds=grace).run())
