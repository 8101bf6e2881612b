"""``haulage config``: every setting, where it comes from, and names that mean nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from haulage.doctor.origins import BESIDE, INTERNAL
from orchestrator.settings import Settings
from tests.doctor.ask import haulage

ROOT = Path(__file__).parents[2]
PACKAGES = ("haulage", "orchestrator", "providers", "workers")


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "haulage.toml"
    path.write_text('lease_seconds = 5\nshared_root = "/mnt"\n[profiles.prod]\nendpoint = "https://a"\nregion = "r"\n')
    return path


def settings_of(env: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    (document,) = haulage(env, "config", "show", "--json").rows
    return {each["name"]: each for each in document["settings"]}, document["warnings"]


def test_every_setting_is_shown_with_where_it_comes_from(toml: Path) -> None:
    shown, _ = settings_of({"HAULAGE_CONFIG": str(toml), "HAULAGE_SHARDS": "2", "HAULAGE_PROFILE_PROD__REGION": "s"})

    assert set(Settings.model_fields) - {"profiles"} == {name for name in shown if not name.startswith("profile ")}
    assert (shown["shards"]["value"], shown["shards"]["origin"]) == (2, "environment HAULAGE_SHARDS")
    assert (shown["lease_seconds"]["value"], shown["lease_seconds"]["origin"]) == (5, f"{toml}: lease_seconds")
    assert (shown["pools"]["value"], shown["pools"]["origin"]) == (["control", "data", "express"], "default")
    assert shown["profile prod"]["value"] == ["endpoint", "region"]
    assert "environment HAULAGE_PROFILE_PROD__REGION" in shown["profile prod"]["origin"]
    assert f"{toml}: profiles.prod.endpoint" in shown["profile prod"]["origin"]


def test_a_url_from_a_file_is_shown_with_the_file_and_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:hunter2@redis.example:6390/1\n")
    env = {"HAULAGE_REDIS_URL_FILE": str(tmp_path / "url")}
    shown, warnings = settings_of(env)

    assert shown["redis_url"]["value"] == "redis://redis.example:6390/1"
    assert shown["redis_url"]["origin"] == f"file {tmp_path}/url, by environment HAULAGE_REDIS_URL_FILE"
    assert warnings == []


def test_secrets_are_masked() -> None:
    env = {"HAULAGE_REDIS_URL": "rediss://ann:hunter2@redis.example:6390/1?password=hunter2"}
    env |= {"HAULAGE_BROKER_URL": "unix:///run/r.sock?password=hunter2", "HAULAGE_PROFILE_X__SECRET_KEY": "hunter2"}
    shown, _ = settings_of(env)

    assert shown["redis_url"]["value"] == "rediss://redis.example:6390/1"
    assert shown["broker_url"]["value"] == "unix:///run/r.sock"
    for argv in (("config", "show"), ("config", "show", "--json")):
        answer = haulage(env, *argv)
        assert "hunter2" not in answer.out + answer.err
        assert "ann" not in answer.out + answer.err


def test_names_that_nothing_reads_are_named_with_the_nearest_that_is_read(toml: Path) -> None:
    env = {"HAULAGE_CONFIG": str(toml), "HAULAGE_LEASE_SECOND": "1", "HAULAGE_XYZZY": "1", "HAULAGE_PROFILE_A_B": "1"}
    _, warnings = settings_of(env)
    said = haulage(env, "config", "show").err

    advice = "write HAULAGE_PROFILE_NAME__KEY, with two underscores before the key"
    assert warnings == [
        "nothing reads the variable HAULAGE_LEASE_SECOND; did you mean HAULAGE_LEASE_SECONDS?",
        f"nothing reads the variable HAULAGE_PROFILE_A_B; {advice}",
        "nothing reads the variable HAULAGE_XYZZY",
        f"nothing reads the key shared_root of {toml}; did you mean shared_roots?",
    ]
    assert all(f"warning: {each}\n" in said for each in warnings)


def test_the_path_of_the_file_is_printed_and_without_one_that_is_an_error(toml: Path) -> None:
    with_file, without = haulage({"HAULAGE_CONFIG": str(toml)}, "config", "path"), haulage({}, "config", "path")

    assert (with_file.code, with_file.out) == (0, f"{toml}\n")
    assert (without.code, without.out) == (1, "")


def test_no_variable_that_the_code_reads_is_called_unknown() -> None:
    read = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            read |= set(re.findall(r'environ(?:\.get\(|\[)"(HAULAGE_[A-Z_]+)"', path.read_text()))

    read = {name for name in read if not name.startswith(INTERNAL)}
    assert read
    assert read <= {*BESIDE, *(f"HAULAGE_{name.upper()}" for name in Settings.model_fields)}
