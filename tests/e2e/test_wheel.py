"""The built wheel works outside the checkout: all of it with ``[all]``, and its light half without an extra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PACKAGES = ("haulage", "orchestrator", "providers", "workers")
pytestmark = pytest.mark.timeout(600)  # installs, which may download


def run(*argv: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of the checkout; its error output is part of a failure."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run([*map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(
        UV,
        "build",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        folder,
        ROOT,
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


def install(requirement: str, folder: Path) -> Path:
    """A fresh virtual environment with the versions of the lock; answers its ``bin``."""
    run(UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    locks = [f"--constraints={ROOT}/requirements.lock", f"--build-constraints={ROOT}/requirements-build.lock"]
    run(UV, "pip", "install", "--python", python, *locks, requirement, cwd=folder)
    return python.parent


def test_with_all_extras_the_command_and_every_package_work_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    programs = install(f"haulage[all] @ {wheel.as_uri()}", tmp_path)
    ask = (
        "import json, pathlib, " + ", ".join(PACKAGES) + "\n"
        "lua = pathlib.Path(orchestrator.__file__).parent.joinpath('lua')\n"
        f"homes = [module.__file__ for module in ({', '.join(PACKAGES)})]\n"
        "print(json.dumps({'homes': homes, 'lua': sorted(path.name for path in lua.glob('*.lua'))}))"
    )

    version = run(programs / "haulage", "--version", cwd=tmp_path)
    found = json.loads(run(programs / "python", "-I", "-c", ask, cwd=tmp_path))

    assert "0.1.0" in version
    assert [Path(home).parent.parent.name for home in found["homes"]] == ["site-packages"] * len(PACKAGES)
    assert all(Path(home).is_relative_to(tmp_path) for home in found["homes"])
    assert found["lua"] == sorted(path.name for path in (ROOT / "orchestrator/lua").glob("*.lua"))
    assert found["lua"]


def test_the_base_install_submits_without_what_a_worker_needs(wheel: Path, tmp_path: Path) -> None:
    programs = install(f"haulage @ {wheel.as_uri()}", tmp_path)
    ask = "import haulage, sys; haulage.TransferClient; print('requests' in sys.modules, 'boto3' in sys.modules)"

    version = run(programs / "haulage", "--version", cwd=tmp_path)
    loaded = run(programs / "python", "-I", "-c", ask, cwd=tmp_path)
    listed = json.loads(run(UV, "pip", "list", "--python", programs / "python", "--format", "json", cwd=tmp_path))

    assert "0.1.0" in version
    assert loaded.split() == ["False", "False"]
    assert not {"requests", "boto3", "oss2", "awscrt"} & {entry["name"] for entry in listed}
