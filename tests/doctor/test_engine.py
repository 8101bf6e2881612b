"""What the commands say where no Redis is named: of this machine's engine, which they never start."""

from __future__ import annotations

from pathlib import Path

from haulage.engine import attach, status, stop
from orchestrator.settings import load_settings
from tests.doctor.ask import doctor, haulage


def test_without_an_engine_nothing_is_broken_and_none_is_started(tmp_path: Path) -> None:
    env = {"HAULAGE_ENGINE_FOLDER": str(tmp_path / "engine")}
    answer, probe = doctor(env), doctor(env, "--only", "worker")
    shown = haulage(env, "config", "show").out

    assert (answer.code, answer.bad()) == (0, set())
    assert "no engine runs" in answer.checks["engine"]["message"]
    assert "engine_space" in answer.checks
    assert (probe.code, probe.checks["worker"]["try_this"]) == (1, "set HAULAGE_REDIS_URL")
    assert shown.splitlines()[0].split() == ["redis_url", "-", "(engine)"]
    assert status(load_settings(engine_folder=tmp_path / "engine")) is None


def test_an_engine_that_runs_is_looked_at_like_a_fleet(tmp_path: Path) -> None:
    env = {"HAULAGE_ENGINE_FOLDER": str(tmp_path / "engine")}
    settings = load_settings(engine_folder=tmp_path / "engine")
    try:
        with attach(settings):
            answer = doctor(env)
            shown = haulage(env, "config", "show").out
    finally:
        stop(settings)

    assert (answer.code, answer.bad()) == (0, set())
    assert {"engine", "redis_reachable", "redis_persistence", "pools"} <= answer.checks.keys()
    assert "ready" in answer.checks["engine"]["message"]
    assert "unix:///" in shown.splitlines()[0]
