"""A click group that imports a command when it is used: ``haulage --help`` needs neither Celery nor Redis."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from haulage.cli.hints import INSTEAD

Section = Mapping[str, tuple[str, str]]
"""Command name -> ("module:attribute", one line for ``haulage --help``)."""


class LazyGroup(click.Group):
    """Commands in ``sections``, a table of title -> Section; the help shows them under these titles, in this order."""

    def __init__(self, *args: Any, sections: Mapping[str, Section], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._targets = {name: target for section in sections.values() for name, (target, _) in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._targets:
            return None
        module, _, attribute = self._targets[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            if (hint := INSTEAD.get(args[0])) is None:
                raise
            raise click.UsageError(f"{exc.message.rstrip('.')}: {hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._targets))
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in section.items()])
