"""The repository keeps its own promises: locks without hosts, packages that are typed, modules that say their job."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("haulage", "orchestrator", "providers", "workers")
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path_of_a_machine(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert "--index" not in text
    assert re.findall(r"(?:^|[\s=])[/~]\S*", text) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_in_a_lock_has_a_hash(lock: str) -> None:
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]

    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_locks_agree_on_every_version() -> None:
    tested = pins("requirements-dev.lock")

    assert pins("requirements.lock").items() <= tested.items()
    assert {name: tested.get(name, version) for name, version in pins("requirements-build.lock").items()} == pins(
        "requirements-build.lock"
    )


@pytest.mark.parametrize(
    "lock", [pytest.param("uv.lock", marks=pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout"))]
)
def test_a_lock_that_names_hosts_cannot_be_committed(lock: str) -> None:
    subprocess.run(["git", "check-ignore", "--quiet", lock], cwd=ROOT, check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_marked_as_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_opens_with_one_sentence_on_its_job(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring
    assert re.match(r"[^\n]+[.:?]( |\n|$)", docstring), docstring.splitlines()[0]


def test_all_installs_every_other_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]

    assert set(everything.removeprefix("haulage[").removesuffix("]").split(",")) == set(extras) - {"all"}


def test_the_base_install_holds_no_sdk_and_no_http_client() -> None:
    base = {re.split(r"[^a-z-]", requirement)[0] for requirement in PROJECT["project"]["dependencies"]}

    assert base == {
        "celery", "click", "hiredis", "kombu", "pydantic", "pydantic-settings", "redis", "rich", "structlog",
    }  # fmt: skip


def test_every_package_is_shipped_typed_and_watched() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert set(wheel) == set(PACKAGES)
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == set(PACKAGES)
    assert set(PACKAGES) <= set(PROJECT["tool"]["mypy"]["files"])
