"""docs/seeds.md has every row, and names only tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/seeds.md").read_text(encoding="utf-8")
ROWS = [match.groups() for match in re.finditer(r"^\| ((?:RC|BN)-\d+) \| (.+?) \| (.+?) \|$", TABLE, re.MULTILINE)]
WANTED = [
    *(f"RC-{number:02}" for number in (*range(1, 17), *range(20, 26), *range(30, 41))),
    *(f"BN-{number:02}" for number in range(1, 19)),
]


def test_every_ability_has_one_row() -> None:
    assert [row for row, _, _ in ROWS] == WANTED


def test_every_row_names_a_test_or_says_not_yet() -> None:
    bare = [row for row, _, shown_by in ROWS if "::test_" not in shown_by and "not yet" not in shown_by]
    assert bare == []


def test_every_test_named_in_the_table_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
    missing = [f"{path}::{name}" for path, name in named if name not in _tests_of(path)]

    assert len(named) >= len(WANTED)
    assert missing == []


@cache
def _tests_of(path: str) -> frozenset[str]:
    """Functions of a file; none if there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
