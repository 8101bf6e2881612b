"""Settings: from the environment and a TOML file; a bad value is named, a secret never."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import InvalidSpec
from orchestrator.settings import Settings, load_settings


def refused(**overrides: object) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        load_settings(**overrides)
    return caught.value


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "haulage.toml"
    monkeypatch.setenv("HAULAGE_CONFIG", str(path))
    return path


def test_the_defaults_are_valid_and_name_this_machine() -> None:
    settings = load_settings()

    assert settings.redis == settings.broker == "redis://127.0.0.1:6379/0"
    assert settings.host
    assert settings.lease_ms == 10_000
    assert settings.slots() == {"upload": 32, "download": 32, "copy": 32}


def test_the_environment_sets_values_and_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULAGE_LEASE_SECONDS", "2.5")
    monkeypatch.setenv("HAULAGE_SHARED_ROOTS", " /mnt/a, /mnt/b ,")
    monkeypatch.setenv("HAULAGE_POOLS", "data")
    monkeypatch.setenv("HAULAGE_NO_SUCH_SETTING", "1")

    settings = load_settings()

    assert settings.lease_ms == 2_500
    assert settings.shared_roots == ("/mnt/a", "/mnt/b")
    assert settings.pools == ("data",)


def test_arguments_win_over_the_environment_and_that_over_the_file(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('lease_seconds = 1\nrenew_seconds = 1.5\nsweep_seconds = 1.5\nhost = "file"\n')
    monkeypatch.setenv("HAULAGE_LEASE_SECONDS", "2")
    monkeypatch.setenv("HAULAGE_RENEW_SECONDS", "2")

    settings = load_settings(lease_seconds=3)

    assert (settings.lease_seconds, settings.renew_seconds, settings.sweep_seconds) == (3, 2, 1.5)
    assert settings.host == "file"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lease_seconds", 0),
        ("lease_seconds", "soon"),
        ("lease_seconds", float("nan")),
        ("shards", 0),
        ("shards", 1_025),
        ("parts_in_flight", 0),
        ("queue_capacity", -1),
        ("max_deaths", 0),
        ("log_level", "LOUD"),
        ("host", "two words"),
        ("host", ""),
        ("upload_slots", 0),
        ("upload_slots", 1.5),
        ("download_slots", 0),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_is_allowed(field: str, value: object) -> None:
    """RC-20, BN-01: 0 is refused where there must be one."""
    error = refused(**{field: value})

    assert error.field == f"HAULAGE_{field.upper()}"
    assert repr(error.value) == repr(value)
    assert error.allowed


@pytest.mark.parametrize("field", ["redis_url", "broker_url"])
@pytest.mark.parametrize("url", ["http://:hunter2@h", "redis+cluster://:hunter2@h", "hunter2", ""])
def test_a_url_that_is_no_redis_is_refused_without_repeating_it(field: str, url: str) -> None:
    error = refused(**{field: url})

    assert "hunter2" not in str(error)
    assert "rediss://" in error.allowed


def test_no_secret_shows_in_a_repr_or_dump(toml: Path) -> None:
    toml.write_text('redis_url = "redis://:hunter2@h"\n[profiles.prod]\nsecret_key = "hunter2"\n')

    settings = load_settings(broker_url="redis://:hunter2@b")

    for shown in (repr(settings), str(settings), repr(settings.profile("prod")), repr(settings.redis_url)):
        assert "hunter2" not in shown
    assert settings.redis == "redis://:hunter2@h"
    assert settings.broker == "redis://:hunter2@b"


@pytest.mark.parametrize(("slots", "shards", "shares"), [(32, 1, [32]), (10, 4, [3, 3, 2, 2]), (2, 3, [1, 1, 1])])
def test_shards_share_the_slots_and_none_is_left_without(slots: int, shards: int, shares: list[int]) -> None:
    settings = load_settings(upload_slots=slots, shards=shards)

    assert [settings.slots_of(shard)["upload"] for shard in range(shards)] == shares


def test_settings_do_not_change() -> None:
    """RC-20: immutable once they are read."""
    settings = load_settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.host = "other"  # type: ignore[misc]


def test_a_socket_is_spelt_as_celery_wants_it() -> None:
    settings = load_settings(redis_url="unix:///run/redis.sock")

    assert (settings.redis, settings.broker) == ("unix:///run/redis.sock", "redis+socket:///run/redis.sock")


def test_a_configuration_file_that_is_missing_is_named(toml: Path) -> None:
    error = refused()

    assert (error.field, error.value, error.allowed) == ("HAULAGE_CONFIG", str(toml), "a TOML file that exists")


def test_a_configuration_file_that_is_no_toml_is_named(toml: Path) -> None:
    toml.write_text("lease_seconds = = 3")

    error = refused()

    assert (error.field, error.value) == ("HAULAGE_CONFIG", str(toml))
    assert "valid TOML" in error.allowed


def test_a_url_with_a_password_may_be_the_content_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("redis://:hunter2@ledger:6379/0\n")
    (tmp_path / "wrong").write_text("hunter2")
    monkeypatch.setenv("HAULAGE_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("HAULAGE_BROKER_URL_FILE", str(tmp_path / "missing"))

    with pytest.raises(InvalidSpec, match=r"HAULAGE_BROKER_URL_FILE: .*missing.*No such file"):
        load_settings()
    monkeypatch.setenv("HAULAGE_BROKER_URL_FILE", str(tmp_path / "wrong"))
    with pytest.raises(InvalidSpec, match="HAULAGE_BROKER_URL") as wrong:
        load_settings()
    monkeypatch.delenv("HAULAGE_BROKER_URL_FILE")
    settings = load_settings()
    monkeypatch.setenv("HAULAGE_REDIS_URL", "redis://other/0")
    with pytest.raises(InvalidSpec, match="one of the two"):
        load_settings()

    assert settings.redis == "redis://:hunter2@ledger:6379/0"
    assert "redis_url" in settings.model_fields_set, "a fleet is meant, and not the engine"
    assert "hunter2" not in repr(settings) + str(wrong.value)


def test_profiles_come_from_the_file_and_key_by_key_from_the_environment(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    toml.write_text('[profiles.prod]\nendpoint = "https://a"\nregion = "r"\n[profiles.other]\nendpoint = "https://o"\n')
    monkeypatch.setenv("HAULAGE_PROFILE_PROD__ENDPOINT", "https://b")
    monkeypatch.setenv("HAULAGE_PROFILE_PROD__SECRET_KEY_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("HAULAGE_PROFILE_PROD__CA_FILE", "/etc/ca.pem")
    monkeypatch.setenv("HAULAGE_PROFILE_ENV__REGION", "e")
    settings = load_settings()

    prod = settings.profile("prod")

    assert settings.profile_names() == ["env", "other", "prod"]
    assert prod is not None
    assert prod.name == "prod"
    assert prod.values == {
        "endpoint": "https://b",
        "region": "r",
        "secret_key": "hunter2",
        "ca_file": "/etc/ca.pem",  # a path by its own right
    }
    assert settings.profile("none") is None
    assert isinstance(settings, Settings)


@pytest.mark.parametrize("password", ["hunter2/x", "hunter2?x", "hunter2#x"])
def test_a_password_that_breaks_the_url_is_not_shown(password: str) -> None:
    with pytest.raises(InvalidSpec, match="port") as refused:
        load_settings(redis_url=f"redis://:{password}@host:6379/0")

    assert "hunter2" not in str(refused.value)
