"""The command ``haulage``. Results on stdout, talk on stderr; exit 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import io
import sys

import click

from haulage.cli.lazy import LazyGroup, Section

SECTIONS: dict[str, Section] = {
    "Move objects": {
        "cp": ("haulage.cli.cp:cp", "Copy one object and show how far it is; again: goes on."),
        "submit": ("haulage.cli.submit:submit", "Queue a transfer and print its id."),
    },
    "Look": {
        "ls": ("haulage.cli.ls:ls", "List transfers, newest first."),
        "show": ("haulage.cli.show:show", "Show one transfer: why it waits, what failed."),
        "watch": ("haulage.cli.watch:watch", "Watch all transfers on a full screen."),
        "wait": ("haulage.cli.wait:wait", "Wait until transfers have ended."),
        "events": ("haulage.cli.wait:events", "Print events, past ones first."),
    },
    "Steer": {
        "pause": ("haulage.cli.steer:pause", "Pause transfers; what is stored stays."),
        "resume": ("haulage.cli.steer:resume", "Queue paused transfers again."),
        "cancel": ("haulage.cli.steer:cancel", "Cancel transfers and remove what they stored so far."),
        "retry": ("haulage.cli.steer:retry", "Queue failed transfers again; stored parts are kept."),
        "sessions": ("haulage.cli.sessions:sessions", "List open uploads at stores, abort forgotten ones."),
    },
    "Run": {
        "worker": ("haulage.cli.worker:worker", "Run this machine's worker."),
        "engine": ("haulage.cli.engine:engine", "Look at or stop the engine of this machine."),
        "flower": ("haulage.cli.flower:flower", "Watch parts in a browser, with Flower."),
        "doctor": ("haulage.cli.doctor:doctor", "Look for what is wrong, and say what to do."),
        "config": ("haulage.cli.config:config", "Show every setting and where it comes from."),
        "profiles": ("haulage.cli.profiles:profiles", "List the profiles, and try one."),
        "completion": ("haulage.cli.completion:completion", "Print the script that completes commands and ids."),
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
    """Distributed, resumable file transfer.

    \b
    haulage cp https://example.org/big.iso .       copy, follow, resume: the same command again
    haulage watch                                  what moves, and what holds it
    haulage COMMAND --help                         options and examples of one command
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that this terminal cannot show is no reason to fail
