"""Reads the runnable blocks of a page. The marks are HTML comments, so no reader of the page sees them.

<!-- runnable page: web, s3 -->     once, anywhere: what stands beside the page (see ``surroundings.py``)
<!-- run -->                        the next block is run: ``sh`` by bash, ``python`` as a program
<!-- output -->                     the next block is what the one before it prints; see ``looks_like``
<!-- file: profiles.toml -->        the next block is written to this file
<!-- hidden: mkdir data -->         a command the reader needs no telling of
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_MARK = re.compile(r"<!-- (run|output|file|hidden|runnable page)(?:: (.*?))? -->")
_FENCE = re.compile(r"(```+)\s*([\w-]*)")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``kind`` is ``sh``, ``python`` or ``file``; ``line`` is where it stands in the page."""

    kind: str
    text: str
    line: int
    file: str = ""
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page's steps, in order; ``needs`` names what must stand beside it."""

    path: Path
    needs: frozenset[str]
    steps: tuple[Step, ...]


def read_page(path: Path) -> Page:
    """Raises ValueError for a mark without a block, or a block in a language nobody runs."""
    needs: set[str] = set()
    steps: list[Step] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        match = _MARK.fullmatch(line.strip())
        if not match:
            continue
        mark, argument = match[1], match[2] or ""
        if mark == "runnable page":
            needs |= {each.strip() for each in argument.split(",") if each.strip()}
        elif mark == "hidden":
            steps.append(Step("sh", argument, number + 1))
        else:
            language, text = _block(lines, number + 1, path)
            if mark == "output":
                steps[-1] = replace(steps[-1], expected=text)
            elif mark == "file":
                steps.append(Step("file", text, number + 1, file=argument))
            elif language in ("sh", "python"):
                steps.append(Step(language, text, number + 1))
            else:
                raise ValueError(f"{path}:{number + 1}: nobody runs a block of {language!r}")
    return Page(path, frozenset(needs), tuple(steps))


def pages(folder: Path) -> Iterator[Page]:
    """Every page with something to run: the README and all of ``docs/``."""
    for path in [folder / "README.md", *sorted((folder / "docs").rglob("*.md"))]:
        page = read_page(path)
        if page.steps:
            yield page


def looks_like(expected: str, actual: str) -> bool:
    """Each expected line is found, in this order; ``...`` stands for anything, blanks count as one, more may come."""
    rest = iter([" ".join(line.split()) for line in actual.splitlines()])
    for line in filter(None, (" ".join(each.split()) for each in expected.splitlines())):
        if line == "...":
            continue
        pattern = re.compile(".*".join(re.escape(piece.strip()) for piece in line.split("...")))
        if not any(pattern.fullmatch(each) for each in rest):
            return False
    return True


def _block(lines: list[str], start: int, path: Path) -> tuple[str, str]:
    """The fenced block that begins at ``start``, after blank lines at most."""
    while start < len(lines) and not lines[start].strip():
        start += 1
    fence = _FENCE.match(lines[start].strip()) if start < len(lines) else None
    if not fence:
        raise ValueError(f"{path}:{start}: a mark, and no block after it")
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = next(at for at in range(start + 1, len(lines)) if lines[at].strip() == fence[1])
    return fence[2], "\n".join(line[indent:] for line in lines[start + 1 : end])
