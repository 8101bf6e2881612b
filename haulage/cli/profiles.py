"""``haulage profiles``: which profiles there are and who has them, and one cheap call to try one."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

import click

from haulage.cli.doctor import say
from haulage.cli.output import errors_as_sentences, json_option, print_json
from haulage.doctor.check import Check, Status
from haulage.doctor.engine import reached
from haulage.doctor.origins import profile_keys
from haulage.doctor.profiles import call, endpoint, resolve
from orchestrator.connection import connect
from orchestrator.errors import InvalidSpec, LedgerUnavailable
from orchestrator.fleet import Fleet, WorkerInfo
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings, load_settings


@click.group(invoke_without_command=True)
@click.pass_context
def profiles(ctx: click.Context) -> None:
    """List profiles, and try one. Values are never shown. Alone it is `profiles ls`."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls)


@profiles.command()
@json_option
@errors_as_sentences
def ls(as_json: bool) -> None:
    """List the profiles of this machine and of the live workers: names of their keys, and who has them."""
    settings = load_settings()
    here = {name: sorted(profile_keys(settings, os.environ, name)) for name in settings.profile_names()}
    there: dict[str, set[str]] = {}
    for worker in _workers():
        for name in worker.profiles:
            there.setdefault(name, set()).add(worker.host)
    if not here and not there and not as_json:
        click.echo("no profiles: see [profiles.NAME] of the TOML file, or HAULAGE_PROFILE_NAME__KEY", err=True)
    for name in sorted({*here, *there}):
        row: dict[str, Any] = {"name": name, "keys": here.get(name), "hosts": sorted(there.get(name, ()))}
        print_json(row) if as_json else click.echo(_line(row))


def _workers() -> list[WorkerInfo]:
    meant = reached(load_settings())
    if meant is None:
        return []
    try:
        with connect(meant, retry_seconds=0) as client:
            return Fleet(Ledger(client, meant)).workers()
    except LedgerUnavailable as exc:
        click.echo(f"warning: who has them is not known: {exc}", err=True)
        return []


def _line(row: dict[str, Any]) -> str:
    keys = "not on this machine" if row["keys"] is None else f"keys {','.join(row['keys'])}"
    return f"{row['name']}  {keys}; workers of {','.join(row['hosts']) or 'no host'} have it"


@profiles.command()
@click.argument("name")
@click.argument("url", required=False)
@json_option
@errors_as_sentences
def test(name: str, url: str | None, as_json: bool) -> None:
    """Resolve profile NAME on this machine and make one cheap call with it; exit 1 if it is refused.

    With URL (s3://bucket/key, https://...) the call asks for that object; without, an S3 profile lists its bucket.
    """
    checks = _tried(load_settings(), name, url)
    for check in checks:
        print_json(asdict(check)) if as_json else say(check)
    if any(each.status is Status.FAIL for each in checks):
        sys.exit(1)


def _tried(settings: Settings, name: str, url: str | None) -> list[Check]:
    if name not in settings.profile_names():
        known = ", ".join(settings.profile_names()) or "none is configured"
        raise InvalidSpec("profile", name, f"a profile of this machine: {known}")
    checks = [resolve(settings, name)]
    profile = settings.profile(name) if checks[0].status is not Status.FAIL else None
    if profile is None:
        return checks
    if profile.get("endpoint"):
        checks.append(endpoint(profile, settings.connect_seconds))
        if checks[-1].status is Status.FAIL:
            return checks
    return [*checks, call(settings, profile, url)]
