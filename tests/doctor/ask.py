"""Runs a command of ``haulage`` in this process, under an environment of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from haulage.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One JSON document per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """Of ``doctor --json``, by name."""
        return {row["name"]: row for row in self.rows}

    def bad(self) -> set[str]:
        """Names of the checks that are not ok."""
        return {name for name, row in self.checks.items() if row["status"] != "ok"}


def haulage(env: dict[str, str], *argv: str) -> Answer:
    done = CliRunner(env=env).invoke(main, argv, prog_name="haulage")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Answer(done.exit_code, done.stdout, done.stderr)


def doctor(env: dict[str, str], *argv: str) -> Answer:
    return haulage(env, "doctor", "--json", *argv)
