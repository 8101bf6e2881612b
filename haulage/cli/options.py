"""Options that commands share, and what a shell's words mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from haulage.cli.completion import complete_ids
from orchestrator.states import State

_HOST_NAME = re.compile(r"([a-z0-9-]+\.)+[a-z]{2,}", re.IGNORECASE)
F = TypeVar("F", bound=Callable[..., Any])

ids_argument = click.argument("transfer_ids", metavar="ID...", nargs=-1, shell_complete=complete_ids)
id_argument = click.argument("transfer_id", metavar="ID", shell_complete=complete_ids)

_SPEC = (
    click.option("--source-profile", metavar="NAME", help="Profile with the credentials of SOURCE."),
    click.option("--destination-profile", metavar="NAME", help="Profile with the credentials of DESTINATION."),
    click.option(
        "--on-exists",
        type=click.Choice(["fail", "skip", "overwrite"]),
        help="If something is there already. Default: fail for files, overwrite for objects.",
    ),
    click.option(
        "--on-source-change",
        type=click.Choice(["fail", "restart"]),
        help="If the source changes while it is read. Default: fail.",
    ),
    click.option("--checksum", metavar="ALGO:HEX", help="What the object must hash to: md5, sha1, sha256 or sha512."),
    click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="HTTP header; may be repeated."),
    click.option("--parts-in-flight", type=int, metavar="N", help="Parts that move at once."),
    click.option("--part-size", metavar="SIZE", help="Bytes, or 8MiB. Default: chosen by the size of the object."),
    click.option(
        "--copy",
        type=click.Choice(["auto", "relay", "server"]),
        help="Through the workers, or inside the store. Default: auto.",
    ),
    click.option("--keep-partial", is_flag=True, default=None, help="Cancel keeps the temporary file or upload."),
    click.option("--reference", metavar="TEXT", help="Your own name for the transfer."),
    click.option("--idempotency-key", metavar="KEY", help="The same key again gives the same transfer."),
    click.option("--tenant", metavar="NAME", help="On whose behalf."),
    click.option("--priority", type=int, metavar="0-9", help="0 goes first. Default: 5."),
    click.option("--pool", metavar="NAME", help="Pool of workers that moves the parts."),
    click.option("--notify", metavar="TASK@QUEUE", help="Celery task of yours to send when the transfer has ended."),
)

_FILTERS = (
    click.option(
        "--state",
        type=click.Choice([str(each) for each in State]),
        metavar="STATE",
        help=f"Only those in this state: {', '.join(State)}.",
    ),
    click.option(
        "--direction", type=click.Choice(["upload", "download", "copy"]), help="Only those of this direction."
    ),
    click.option("--tenant", metavar="NAME", help="Only those of this tenant."),
    click.option("--reference", metavar="TEXT", help="Only those with exactly this reference."),
    click.option("--source", "source_contains", metavar="TEXT", help="Only those whose source contains this."),
    click.option("--destination", "destination_contains", metavar="TEXT", help="Only those whose destination does."),
)


def spec_options(command: F) -> F:
    """Options of a transfer; ``spec_of`` turns them into those of ``submit``."""
    for option in reversed(_SPEC):
        command = option(command)
    return command


def filter_options(command: F) -> F:
    """Which transfers; ``given`` leaves out what was not said."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Without the options that were not given."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def spec_of(options: dict[str, Any]) -> dict[str, Any]:
    """Fields of TransferSpec."""
    spec = given(options)
    if "headers" in spec:
        spec["headers"] = dict(_header(each) for each in spec["headers"])
    if "notify" in spec:
        spec["notify"] = _notify(spec["notify"])
    return spec


def source_of(text: str) -> str:
    """A relative path means one below the working folder; a folder is refused, and a URL that lacks its scheme."""
    from orchestrator.errors import InvalidSpec
    from providers.schemes import redact

    if not _is_url(text) and os.path.isdir(text):
        raise InvalidSpec("source", text, "one file or object; copying a folder (-r) comes with a later version")
    first, slash, _ = text.partition("/")
    if slash and _HOST_NAME.fullmatch(first) and not os.path.exists(first):
        raise InvalidSpec("source", redact(text), f"a file that is there; did you mean {redact('https://' + text)}?")
    return _place(text)


def destination_of(text: str) -> str:
    """As ``cp`` has it: into a folder that is there, under the source's name."""
    into = not _is_url(text) and not text.endswith("/") and os.path.isdir(text)
    return _place(text + "/" if into else text)


def _place(text: str) -> str:
    if _is_url(text) or text.startswith("/"):
        return text
    return os.path.abspath(text) + ("/" if text.endswith("/") else "")


def _is_url(text: str) -> bool:
    return ":" in text.split("/")[0]


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{name!r}: write NAME=VALUE", param_hint="--header")
    return name, value


def _notify(text: str) -> dict[str, str]:
    task, at, queue = text.rpartition("@")
    if not (task and at and queue):
        raise click.BadParameter(f"{text!r}: write TASK@QUEUE", param_hint="--notify")
    return {"task": task, "queue": queue}
