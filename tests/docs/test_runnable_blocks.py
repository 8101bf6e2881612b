"""Each command of the README and of the documentation, pasted: page by page, in a fresh installation of the wheel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Page, Step, looks_like, pages
from tests.docs.surroundings import ROOT, Surroundings, build_wheel
from tests.servers.s3_server import S3Server

PAGES = list(pages(ROOT))
_PAGE_SECONDS = 240
pytestmark = pytest.mark.timeout(_PAGE_SECONDS + 120)  # installs, which may download


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("bucket")
        yield server


@pytest.mark.parametrize("page", PAGES, ids=[str(page.path.relative_to(ROOT)) for page in PAGES])
def test_the_blocks_of_the_page_run_in_order_and_print_what_it_says(
    page: Page, wheel: Path, request: pytest.FixtureRequest
) -> None:
    s3 = request.getfixturevalue("s3") if "s3" in page.needs else None
    with Surroundings(wheel, page.needs, s3) as around:
        script = around.folder.parent / "page.sh"
        script.write_text(_script(page, around))
        output = around.folder.parent / "page.out"

        with output.open("wb") as out:
            command = ["timeout", "--kill-after=5", str(_PAGE_SECONDS), "bash", str(script)]
            done = subprocess.run(
                command,
                cwd=around.folder,
                env=around.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )

        said = output.read_text("utf-8", "replace")
        assert done.returncode == 0, f"{page.path} stopped with {done.returncode}:\n{said[-6000:]}"
        for number, step in enumerate(page.steps):
            printed = said.partition(f"{_mark(number)}\n")[2].partition(_mark(number + 1))[0]
            text = f"{page.path}:{step.line} printed\n{printed}\nand the page says\n{step.expected}"
            assert looks_like(around.here(step.expected), printed), text


def test_no_page_that_says_what_to_type_goes_unrun() -> None:
    told = {
        ROOT / "README.md",
        ROOT / "docs/quickstart.md",
        ROOT / "docs/tutorial.md",
        *(ROOT / "docs/howto").glob("*"),
    }
    elsewhere = {  # each needs what a page cannot have beside it: Docker, a server of that protocol, this checkout
        "operate.md": "tests/deploy",
        "chunked-upload.md": "tests/e2e/test_chunked_http.py",
        "custom-protocol.md": "tests/e2e/test_custom_provider.py",
    }
    assert all((ROOT / test).exists() for test in elsewhere.values())
    told -= {ROOT / "docs/howto" / page for page in elsewhere}

    assert told == {page.path for page in PAGES}


def test_output_is_compared_line_by_line_with_gaps() -> None:
    assert looks_like("a ... c\nlast", "first\na b  c\nmore\nlast\n")
    assert not looks_like("last\na ... c", "a b c\nlast")
    assert not looks_like("a", "ab")


def _mark(number: int) -> str:
    return f"== block {number}"


def _script(page: Page, around: Surroundings) -> str:
    lines = ["set -eu"]
    for number, step in enumerate(page.steps):
        lines.append(f"echo; echo '{_mark(number)}'")
        lines.append(_command(number, step, around))
    return "\n".join([*lines, f"echo; echo '{_mark(len(page.steps))}'", ""])


def _command(number: int, step: Step, around: Surroundings) -> str:
    text = around.here(step.text)
    if step.kind == "sh":
        return text
    # A program is written when its turn comes, so that the page may have made its folder; a shell would read `$`.
    kept = around.folder.parent / f"block_{number}"
    kept.write_text(text + "\n")
    target = step.file or f"block_{number}.py"
    return f"cp {kept} {target}" + ("" if step.kind == "file" else f" && python {target}")
