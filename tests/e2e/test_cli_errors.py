"""What a person reads when something is wrong: a code, one sentence, what to try, and never a traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import orchestrator.errors
import providers.errors
from haulage.cli import main
from haulage.cli.hints import HINTS, NO_HINT, hint_for
from haulage.cli.output import errors_as_sentences
from tests.e2e.cli_terminal import HAULAGE, Terminal
from tests.e2e.fleet import CHECKOUT, Fleet, eventually

_START_SECONDS = 0.25


def descendants(kind: type[Exception]) -> set[type[Exception]]:
    return {kind, *(each for child in kind.__subclasses__() for each in descendants(child))}


def codes() -> set[str]:
    """Every code that an error of ours can have, tests' own classes aside."""
    found = descendants(orchestrator.errors.HaulageError) | descendants(providers.errors.ProviderError)
    return {
        str(vars(each)["code"]) for each in found if "code" in vars(each) and not each.__module__.startswith("tests")
    }


def test_every_code_has_a_hint_or_a_reason_for_none() -> None:
    import workers.failures  # its class is met in `show`

    assert workers.failures.Unexpected.code in HINTS
    missing = codes() - HINTS.keys() - NO_HINT
    assert not missing, f"say in haulage/cli/hints.py what to try after {sorted(missing)}"
    assert not HINTS.keys() & NO_HINT
    for hint in HINTS.values():
        assert hint[0].islower() or hint[0] == "-" or hint.startswith("HAULAGE_")
        assert "\n" not in hint


def run_failing(env: dict[str, str]) -> tuple[int, str, BaseException | None]:
    @click.command()
    @errors_as_sentences
    def fails() -> None:
        raise RuntimeError("first line\nsecond line")

    done = CliRunner(env=env).invoke(fails, [])
    return done.exit_code, done.stderr, done.exception


def test_an_unexpected_exception_is_one_sentence_and_how_to_see_more() -> None:
    code, talk, _ = run_failing({})
    _, _, raised = run_failing({"HAULAGE_DEBUG": "1"})

    assert code == 1
    assert talk.splitlines() == [
        "internal_error: RuntimeError: first line",
        f"try: {HINTS['internal_error']}",
    ]
    assert isinstance(raised, RuntimeError)


def command(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "HAULAGE_REDIS_URL"}
    return subprocess.run(
        [*HAULAGE, *argv],
        env={**environment, **env},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_without_a_redis_is_wrong_usage() -> None:
    done = command("worker")

    assert (done.returncode, done.stdout) == (2, "")
    assert "HAULAGE_REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("raises", "says"),
    [
        (
            "ModuleNotFoundError('no module', name='urllib3.util')",
            "Error: worker: urllib3.util is not installed; try: ",
        ),
        (
            "ModuleNotFoundError('no module named nowhere', name='nowhere')",
            "ModuleNotFoundError: no module named nowhere",
        ),
        ("ImportError('libz.so: wrong architecture', name='awscrt')", "ImportError: libz.so: wrong architecture"),
    ],
    ids=["of the extra", "of no extra", "there but broken"],
)
def test_only_a_missing_module_of_an_extra_is_called_not_installed(tmp_path: Path, raises: str, says: str) -> None:
    (tmp_path / "structlog.py").write_text(f"raise {raises}")  # what the worker imports first

    done = command("worker", HAULAGE_REDIS_URL="redis://127.0.0.1:1/0", PYTHONPATH=str(tmp_path))

    assert done.returncode == 1
    assert says in done.stderr.splitlines()[0]
    assert ("pip install 'haulage[worker]'" in done.stderr) is ("urllib3" in raises)


def test_a_worker_without_its_extra_starts_no_process() -> None:
    code = "import sys; sys.modules['awscrt'] = None; from haulage.cli import main; main(['worker'])"
    environment = {**os.environ, "HAULAGE_REDIS_URL": "redis://127.0.0.1:1/0"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert done.stderr == "Error: worker: awscrt is not installed; try: pip install 'haulage[worker]'\n"


def test_a_log_is_only_to_be_read_where_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)

    done = command("ls", HAULAGE_ENGINE_FOLDER=str(tmp_path / "open"))

    assert done.returncode == 1
    assert f"chmod 700 {tmp_path / 'open'}" in done.stderr
    assert "log file" not in done.stderr
    assert "log file" in hint_for("runtime_failed", "it did not start; its log is /there/engine.log")


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("copy", "/a", "/b"), "haulage cp"),
        (("sync",), "later version"),
        (("mv", "/a", "/b"), "later version"),
        (("version",), "haulage --version"),
        (("help",), "haulage --help"),
    ],
)
def test_names_of_other_programs_commands_get_a_hint(argv: tuple[str, ...], hint: str) -> None:
    done = CliRunner().invoke(main, argv, prog_name="haulage")

    assert (done.exit_code, done.stdout) == (2, "")
    assert f"No such command '{argv[0]}': " in done.stderr
    assert hint in done.stderr


@pytest.mark.parametrize(("bare", "whole"), [("config", "show"), ("profiles", "ls")])
def test_a_bare_group_does_what_is_meant_most_often(bare: str, whole: str) -> None:
    env = {"HAULAGE_REDIS_URL": None, "HAULAGE_PROFILE_MINE__ACCESS_KEY": "k"}
    alone, said = (CliRunner(env=env).invoke(main, argv, prog_name="haulage") for argv in ([bare], [bare, whole]))

    assert (alone.exit_code, alone.stdout) == (0, said.stdout)
    assert alone.stdout


@pytest.mark.parametrize("argv", [("watch",), ("watch", "--state", "running")], ids=" ".join)
def test_watch_without_a_terminal_is_wrong_usage(argv: tuple[str, ...]) -> None:
    done = command(*argv)

    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["cp", "/a"],
        ["cp", "/a", "/b", "--notify", "no-queue"],
        ["submit", "/a", "/b", "--notify", "@q"],
        ["events", "--kinds", "nonsense"],
        ["ls", "--page", "0"],
        ["ls", "--direction", "sideways"],
        ["pause"],
        ["cancel", "--state", "running"],
        ["completion", "tcsh"],
        ["wait"],
    ],
    ids=" ".join,
)
def test_wrong_usage_needs_no_redis_to_be_told(argv: list[str]) -> None:
    nowhere = {"HAULAGE_REDIS_URL": "unix:///nowhere/haulage.sock", "HAULAGE_REDIS_RETRY_SECONDS": "0"}
    done = CliRunner(env=nowhere).invoke(main, argv, prog_name="haulage")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("argv", [("--version",), ("--help",)], ids=" ".join)
def test_it_starts_at_once_and_loads_neither_celery_nor_redis(argv: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from haulage.cli import main\n"
        f"main({list(argv)!r}, standalone_mode=False)\n"
        "assert not {'celery', 'redis', 'pydantic', 'rich'} & set(sys.modules), sorted(sys.modules)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [HAULAGE[0], "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert done.returncode == 0, done.stderr
    # Twice what it should take: the machine may be slow, an import of Celery takes longer still.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2 * _START_SECONDS


def test_a_worker_on_a_terminal_says_whom_it_serves_and_logs_as_text(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        env = {**fleet.environment, "HAULAGE_REDIS_URL": fleet.redis.url.replace("redis://", "redis://:hidden@")}
        plain = fleet.environment
        with Terminal(
            ["worker", "--pools", "control", "--processes", "1", "--grace", "5"], plain, columns=120
        ) as terminal:
            where = fleet.redis.url.removeprefix("redis://").partition("/")[0]
            terminal.wait_for(f"serving pools control on redis {where}")
            eventually(lambda: bool(fleet.client.workers()), "a worker that serves")
            text = terminal.text
            terminal.send(b"\x03")
            assert terminal.wait_end() == 0
        with Terminal(["worker", "--pools", "control"], env, columns=120) as secret:
            secret.wait_for(f"serving pools control on redis {where}")

    assert '{"event"' not in text
    assert "hidden" not in secret.text
