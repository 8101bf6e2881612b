"""How the command line talks: JSON or rows on stdout, talk on stderr, one sentence per error.

Nothing heavy is imported here before it is used: every command passes through this module.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from haulage.cli.hints import hint_for

if TYPE_CHECKING:
    from rich.console import Console

    from haulage.client import TransferClient
    from orchestrator.settings import Settings
    from orchestrator.views import Transfer

P = ParamSpec("P")
R = TypeVar("R")

_REDIS_PATIENCE_SECONDS = 1.0
"""Somebody sits before the screen: a Redis that is not there is better named soon than waited for."""

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document per line on stdout.")


def open_client() -> TransferClient:
    """A client for one command: of the fleet whose Redis is named, else of this machine's own engine."""
    from haulage.client import TransferClient
    from haulage.engine import wants_engine
    from orchestrator.settings import load_settings

    settings = load_settings(redis_retry_seconds=_REDIS_PATIENCE_SECONDS)
    if not wants_engine(settings):
        return TransferClient(settings)
    with _while_it_starts(settings):
        return TransferClient.embedded()


@contextmanager
def _while_it_starts(settings: Settings) -> Iterator[None]:
    """On a terminal, say what takes these seconds; nothing of it stays."""
    from haulage.engine import status

    if not is_live(sys.stderr) or status(settings) is not None:
        yield
        return
    click.echo("starting the engine of this machine", nl=False, err=True)
    try:
        yield
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def is_embedded(client: TransferClient) -> bool:
    """Whether this machine's engine does the work."""
    return getattr(client, "_engine", None) is not None


def tell_if_older(client: TransferClient) -> None:
    """Where the engine cannot take this command's settings over just now: which, and what to do. No values."""
    engine = getattr(client, "_engine", None)
    if engine is not None and engine.older:
        names = ", ".join(engine.older)
        click.echo(f"the engine runs with older settings ({names}): haulage engine stop, then again", err=True)


def ledger_settings() -> Settings | None:
    """How to reach the ledger as it is now; None where an engine is meant and none runs. Starts nothing."""
    from haulage.engine import status, wants_engine
    from orchestrator.settings import load_settings

    settings = load_settings(redis_retry_seconds=0.0)
    if not wants_engine(settings):
        return settings
    engine = status(settings)
    if engine is None:
        return None
    return load_settings(redis_retry_seconds=0.0, redis_url=engine.redis_url, host=engine.host)


def report(client: TransferClient, transfer_id: str, wait: Callable[[], Transfer], *, as_json: bool) -> None:
    """Print how a transfer ended. With ``--json`` also if it failed, which is then raised."""
    from orchestrator.errors import TransferCancelled, TransferFailed

    try:
        transfer = wait()
    except (TransferFailed, TransferCancelled):
        if as_json:
            print_json(as_dict(client.get(transfer_id)))
        raise
    print_json(as_dict(transfer)) if as_json else click.echo(line(transfer))


def errors_as_sentences(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into their code, one sentence and what to try; exit 2 for refused values, else 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with speaking():
            return command(*args, **kwargs)

    return run


@contextmanager
def speaking() -> Iterator[None]:
    """``errors_as_sentences`` for a block. ``HAULAGE_DEBUG=1`` lets unexpected exceptions through."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
            raise  # nobody reads any more: click leaves quietly
        code = say_error(exc)
        if code == "internal_error" and os.environ.get("HAULAGE_DEBUG"):
            raise
        sys.exit(2 if _is_refusal(exc) else 1)


def say_error(exc: BaseException) -> str:
    """Print the error and its hint on stderr; answers its code."""
    from orchestrator.errors import HaulageError, TransferFailed
    from providers.errors import ProviderError

    if isinstance(exc, TransferFailed):
        code, text = exc.code, f"transfer {exc.transfer_id} failed: {exc.message}"
    elif isinstance(exc, HaulageError | ProviderError):
        code, text = exc.code, str(exc)
    else:
        code, text = "internal_error", f"{type(exc).__name__}: {exc}".partition("\n")[0]
    click.echo(f"{code}: {printable(text)}", err=True)
    if hint := hint_for(code, text):
        named = getattr(exc, "transfer_id", "ID")
        advice = re.sub(r"\bID\b", named, hint)
        click.echo(f"try: {advice}", err=True)
    return code


def _is_refusal(exc: BaseException) -> bool:
    from orchestrator.errors import InvalidSpec
    from providers.errors import InvalidValue

    return isinstance(exc, InvalidSpec | InvalidValue)


def console(*, stderr: bool = False) -> Console:
    """Rich's console for results, or with ``stderr`` for talk. It heeds NO_COLOR, TERM=dumb and what is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def is_live(stream: Any) -> bool:
    """Whether lines on ``stream`` can be painted anew: a terminal that knows how to move its cursor."""
    return bool(stream.isatty()) and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def terminal_width(stream: Any) -> int:
    """Columns of the stream's terminal now; 80 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def printable(text: str) -> str:
    """Names come from anywhere: nothing in one may move the cursor, change colours or break a row."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def as_dict(transfer: Transfer) -> dict[str, Any]:
    """For ``--json``."""
    return dataclasses.asdict(transfer)


def print_json(value: Any) -> None:
    """One JSON document per line, in ASCII: any terminal and any pipe takes it."""
    click.echo(json.dumps(value, default=str))


def human_bytes(count: float | None) -> str:
    """``1.5 GiB``; a dash for what is not known."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return "-"


def human_seconds(seconds: float | None) -> str:
    """``0:07``, ``1:02:03``, ``3d 04:00``; a dash for what is not known."""
    if seconds is None:
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24:02}:{minute:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def line(transfer: Transfer) -> str:
    """How a transfer ended or stands, in one row for a person."""
    progress = transfer.progress
    state = f"{transfer.state} ({transfer.reason})" if transfer.reason else str(transfer.state)
    state = "skipped" if transfer.result.get("skipped") else state
    size = f"{human_bytes(progress.durable_bytes)} / {human_bytes(progress.total_bytes)}"
    parts = f"{progress.parts_done}/{progress.part_count}"
    ends = f"{printable(transfer.source)} -> {printable(transfer.destination)}"
    return f"{transfer.transfer_id}  {state:<12} {size:>22} {parts:>11}  {ends}"
