"""``haulage worker``: the supervised worker of one machine."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from haulage.cli.output import errors_as_sentences

if TYPE_CHECKING:
    from orchestrator.settings import Settings

_ANSWER_SECONDS = 2.0


@click.command()
@click.option("--pools", help="Comma-separated pools to serve. Default: HAULAGE_POOLS (control,data,express).")
@click.option("--processes", type=click.IntRange(1, 256), help="Processes that move parts. Default: one per core.")
@click.option("--threads", type=click.IntRange(1, 256), default=8, show_default=True, help="Parts at once per process.")
@click.option("--grace", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to drain on SIGTERM.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics on this port of HAULAGE_METRICS_HOST (default: the loopback). "
    "Default: HAULAGE_METRICS_PORT, or none; 0 is any free port.",
)
@errors_as_sentences
def worker(pools: str | None, processes: int | None, threads: int, grace: float, metrics_port: int | None) -> None:
    """Run this machine's worker until SIGTERM or Ctrl-C; then hand parts back and leave.

    Logs go to stderr: as JSON, or on a terminal as text unless HAULAGE_LOG_FORMAT says otherwise.

    \b
    HAULAGE_REDIS_URL=redis://ledger:6379/0 haulage worker
    haulage worker --pools data --threads 16 --grace 300
    """
    from orchestrator.settings import load_settings

    settings = load_settings()
    _refuse_without_redis(settings)
    _refuse_without_extra()
    try:
        from workers.logs import configure_logs
        from workers.metrics_server import metrics_served
        from workers.session_factory import session_factory
        from workers.supervisor import Supervisor, plan_roles
    except ModuleNotFoundError as exc:
        from haulage.doctor.machine import extra_of

        if (extra := extra_of(exc.name)) is None:
            raise
        raise click.ClickException(f"worker: {exc.name} is not installed; try: pip install 'haulage[{extra}]'") from exc
    configure_logs(settings.log_level, _log_format(settings))
    session_factory(settings)  # a bad one is named here, and not by each process for itself
    served = tuple(each.strip() for each in pools.split(",") if each.strip()) if pools else tuple(settings.pools)
    roles = plan_roles(served, processes or os.cpu_count() or 1, threads)
    click.echo(f"serving pools {', '.join(served)} on redis {_redis_host(settings)}", err=True)
    _say_if_away(settings)
    with metrics_served(settings, metrics_port):
        code = Supervisor(roles, grace_seconds=grace).run()
    sys.exit(code)


def _refuse_without_extra() -> None:
    """This process moves no byte and imports none of it: its children would fail, one after the other."""
    from haulage.doctor.machine import lacking

    if missing := lacking("worker"):
        raise click.ClickException(f"worker: {missing[0]} is not installed; try: pip install 'haulage[worker]'")


def _say_if_away(settings: Settings) -> None:
    """At once: the processes retry for a while before they complain, and then in their logs."""
    from orchestrator.connection import connect, connect_broker, ledger_errors
    from orchestrator.errors import LedgerUnavailable

    makers = (connect, connect_broker) if settings.broker_url else (connect,)
    for make in makers:
        try:
            with make(settings, retry_seconds=0, answer_seconds=_ANSWER_SECONDS) as client, ledger_errors():
                client.ping()
        except LedgerUnavailable as exc:
            click.echo(f"{exc}; waiting for it", err=True)


def _refuse_without_redis(settings: Settings) -> None:
    """Without a URL the other commands use this machine's engine, which has a worker: a fleet's would serve nobody."""
    from haulage.engine import wants_engine

    if wants_engine(settings):
        raise click.UsageError(
            "which Redis? Set HAULAGE_REDIS_URL, such as redis://127.0.0.1:6379/0. "
            "Without one, haulage cp and submit bring a worker of their own and need no other."
        )


def _log_format(settings: Settings) -> str:
    """For people on a terminal, for programs elsewhere, if nobody said; the worker's own processes learn it too."""
    if "log_format" in settings.model_fields_set or not sys.stderr.isatty():
        return settings.log_format
    os.environ["HAULAGE_LOG_FORMAT"] = "console"
    return "console"


def _redis_host(settings: Settings) -> str:
    """Host and port, or the socket's path; never the password."""
    url = urlsplit(settings.redis)
    return url.path if url.scheme == "unix" else url.netloc.rpartition("@")[2] or "127.0.0.1:6379"
