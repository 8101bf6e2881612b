"""The command ``haulage``. Results on stdout, talk on stderr; exit 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import click

from haulage.cli import transfers, worker


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None})
@click.version_option(package_name="haulage", prog_name="haulage")
def main() -> None:
    """Distributed, resumable file transfer."""


for command in (*transfers.COMMANDS, worker.worker):
    main.add_command(command)
