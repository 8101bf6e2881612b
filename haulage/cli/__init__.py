"""The command ``haulage``. Results on stdout, talk on stderr; exit 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import click

from haulage.cli.lazy import LazyGroup, Section

SECTIONS: dict[str, Section] = {
    "Move objects": {
        "submit": ("haulage.cli.transfers:submit", "Queue a transfer and print its id."),
    },
    "Look": {
        "ls": ("haulage.cli.transfers:ls", "List transfers, newest first."),
        "show": ("haulage.cli.transfers:show", "Show one transfer: state, parts, why it waits, what failed."),
        "wait": ("haulage.cli.transfers:wait", "Wait until a transfer has ended."),
        "events": ("haulage.cli.transfers:events", "Print events as JSON, one per line."),
    },
    "Steer": {
        "pause": ("haulage.cli.transfers:pause", "Pause transfers; what is stored stays."),
        "resume": ("haulage.cli.transfers:resume", "Queue paused transfers again."),
        "cancel": ("haulage.cli.transfers:cancel", "Cancel transfers and remove what they stored so far."),
        "retry": ("haulage.cli.transfers:retry", "Queue failed transfers again; stored parts are kept."),
    },
    "Run": {
        "worker": ("haulage.cli.worker:worker", "Run this machine's worker."),
    },
}
"""Title -> command name -> ("module:attribute", its line in ``haulage --help``). A new command is one line here."""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None},
)
@click.version_option(package_name="haulage", prog_name="haulage")
def main() -> None:
    """Distributed, resumable file transfer."""
