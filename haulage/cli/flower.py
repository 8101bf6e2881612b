"""``haulage flower``: Flower on our queues. Read-only, on the loopback, behind a password unless told otherwise."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haulage.cli.output import errors_as_sentences
from orchestrator.settings import Settings, load_settings

if TYPE_CHECKING:
    from haulage.engine import Engine

COLUMNS = "name,args,state,result,received,runtime,worker"
MAX_TASKS = 20_000
"""Flower keeps 8 kB for each task."""
_SAVE_EVERY_MS = 10_000
_SUFFIXES = ("", ".db", ".dat", ".dir", ".bak")
"""What the database modules of Python may add to a name."""


_STYLE_SHEET = "/css/flower.css"
_STYLE = b"""
/* haulage: whole rows in a window of 1400 pixels */
.tasks-page { font-size: 0.75rem; }
.tasks-page table.tasks-table > :not(caption) > * > * { padding: 0.3rem 0.4rem !important; }
.tasks-page table.tasks-table > thead > tr > th { padding-right: 1.2rem !important; }
.tasks-table td.overflow-auto { max-width: 40rem; }
"""


@dataclass(frozen=True, slots=True)
class Door:
    """Where Flower listens, and who may come in. ``password`` None: everybody."""

    address: str
    port: int
    user: str
    password: str | None
    url_prefix: str = ""


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=5555, show_default=True, help="0: any free port.")
@click.option("--user", default="haulage", show_default=True, help="User name that Flower asks for.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the password. Default: HAULAGE_FLOWER_PASSWORD, or else one that is made up and printed.",
)
@click.option("--no-auth", is_flag=True, help="Ask for no password; only on the loopback.")
@click.option("--url-prefix", default="", help="Path below which a reverse proxy serves Flower.")
@click.option(
    "--max-tasks", type=click.IntRange(100), default=MAX_TASKS, show_default=True, help="Rows to keep, 8 kB each."
)
@click.option(
    "--persistent",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the rows over a restart; readable by you alone.",
)
@errors_as_sentences
def flower(
    address: str,
    port: int,
    user: str,
    password_file: Path | None,
    no_auth: bool,
    url_prefix: str,
    max_tasks: int,
    persistent: Path | None,
) -> None:
    """Watch parts in a browser: starts Flower, read-only, until Ctrl-C. Workers send task events meanwhile.

    Flower leaves /metrics and /healthcheck open to everybody who reaches the port: they hold names and counts.
    """
    settings = load_settings()
    if find_spec("flower") is None:
        raise click.ClickException("flower is not installed; try: pip install 'haulage[flower]'")
    if no_auth and not _is_loopback(address):
        raise click.UsageError(f"--no-auth with --address {address}: without a password only the loopback is served")
    if ":" in user or not user:
        raise click.UsageError("--user: a name without a colon")
    password, made_up = (None, False) if no_auth else _password(password_file)
    door = Door(address, port, user, password, url_prefix.strip("/"))
    with _ledger(settings) as served:
        _serve(served, door, max_tasks, persistent, show_password=made_up)


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _password(file: Path | None) -> tuple[str, bool]:
    """The password, and whether it was made up here."""
    given = file.read_text(encoding="utf-8").strip() if file else os.environ.get("HAULAGE_FLOWER_PASSWORD", "")
    if not given and (file or "HAULAGE_FLOWER_PASSWORD" in os.environ):
        raise click.UsageError("the password is empty")
    return (given, False) if given else (secrets.token_urlsafe(15), True)


def _ledger(settings: Settings) -> AbstractContextManager[Settings]:
    """The settings to serve: the fleet's, or without any Redis URL those of this machine's engine."""
    from haulage.engine import attach, wants_engine

    return _watching(attach(settings)) if wants_engine(settings) else nullcontext(settings)


@contextmanager
def _watching(engine: Engine) -> Iterator[Settings]:
    """The engine stays while somebody looks."""
    with engine:
        yield engine.settings


def _serve(settings: Settings, door: Door, max_tasks: int, persistent: Path | None, *, show_password: bool) -> None:
    # Flower ships no types.
    from flower.app import Flower  # type: ignore[import-untyped]
    from flower.command import extract_settings, setup_logging  # type: ignore[import-untyped]
    from flower.urls import settings as pages  # type: ignore[import-untyped]
    from tornado.options import options

    from orchestrator.dispatch import make_app

    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)  # the only variable of Flower's that counts here
    options.address, options.port, options.url_prefix = door.address, door.port, door.url_prefix or None
    options.basic_auth = [f"{door.user}:{door.password}"] if door.password else []
    options.read_only = True
    options.max_tasks = max_tasks
    options.tasks_columns = COLUMNS
    if persistent:
        os.umask(0o077)  # Flower writes the file anew each time
        _guard(persistent)
        options.persistent, options.db, options.state_save_interval = True, str(persistent), _SAVE_EVERY_MS
    extract_settings()
    setup_logging()
    app = make_app(settings)
    served = Flower(capp=app, options=options, **pages, static_handler_class=_wider_pages())
    try:
        port = served.start_http_server()
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {door.address}:{door.port}: {exc.strerror}") from None
    _announce(door, port, show_password=show_password)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _steer_events(app, on=True)  # Flower itself asks for events only after five seconds
    try:
        served.start()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        served.stop()
        _steer_events(app, on=False)  # another Flower asks for them again within five seconds
        app.close()


def _wider_pages() -> type[Any]:
    """Serves Flower's style sheet with room for what our rows say: it cuts a result off after 400 pixels."""
    from tornado.web import StaticFileHandler

    class Pages(StaticFileHandler):
        @classmethod
        def get_content(cls, abspath: str, start: int | None = None, end: int | None = None) -> Any:
            if not abspath.endswith(_STYLE_SHEET):
                return super().get_content(abspath, start, end)
            return (Path(abspath).read_bytes() + _STYLE)[start:end]

        def get_content_size(self) -> int:
            added = len(_STYLE) if str(self.absolute_path).endswith(_STYLE_SHEET) else 0
            return super().get_content_size() + added

    return Pages


def _steer_events(app: Any, *, on: bool) -> None:
    """Ask all workers to send events, or to stop; a Redis that is away is Flower's to report."""
    with suppress(Exception):
        (app.control.enable_events if on else app.control.disable_events)()


def _guard(file: Path) -> None:
    """The file is a pickle: whoever may write it runs code here."""
    for each in (file.with_name(file.name + suffix) for suffix in _SUFFIXES):
        if each.exists():
            found = each.stat()
            if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise click.UsageError(f"--persistent {each}: somebody else may write this file; move it away")
            each.chmod(0o600)


def _announce(door: Door, port: int, *, show_password: bool) -> None:
    host = f"[{door.address}]" if ":" in door.address else door.address
    prefix = f"{door.url_prefix}/" if door.url_prefix else ""
    click.echo(f"Flower, read-only: http://{host}:{port}/{prefix}tasks", err=True)
    if door.password is None:
        click.echo("no password is asked for", err=True)
    elif show_password:
        click.echo(f"user {door.user}, password {door.password}", err=True)
    else:
        click.echo(f"user {door.user}, with the password you gave", err=True)
    click.echo("open without a password: /metrics and /healthcheck (names and counts)", err=True)
    if door.password and not _is_loopback(door.address):
        click.echo("the password travels in clear: put a proxy with TLS before this port", err=True)
