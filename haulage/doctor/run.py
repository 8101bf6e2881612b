"""Which checks are made, in which order: what cannot be reached is said once, and nothing behind it is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import redis

from haulage.doctor import engine, fleet, machine, profiles, reach, server
from haulage.doctor.check import Check, Status, fail, warn
from haulage.engine import wants_engine
from haulage.engine.folders import place_of
from orchestrator.connection import connect, connect_broker
from orchestrator.errors import LedgerUnavailable
from orchestrator.fleet import Fleet
from orchestrator.ledger import Ledger
from orchestrator.settings import Settings

GROUPS = ("redis", "fleet", "machine", "profiles", "worker")
"""``worker`` is for the probe of a container, and only made when it is asked for."""


def diagnose(settings: Settings, *, only: Iterable[str] = (), bucket: str | None = None) -> list[Check]:
    """All checks of the groups ``only``, by default all but ``worker``. Never raises for what it finds."""
    groups = set(only) or set(GROUPS) - {"worker"}
    found: list[Check] = []
    if wants_engine(settings) and groups & {"redis", "fleet"}:
        found.append(engine.engine(settings))
    meant = engine.reached(settings)
    if meant is not None and groups & {"redis", "fleet", "worker"}:
        with closing(connect(meant, retry_seconds=0)) as client:
            if groups & {"redis", "fleet"}:
                found += _redis_and_fleet(client, meant, groups)
            if "worker" in groups:
                found.append(_this_worker(client, meant))
    elif meant is None and "worker" in groups:
        found.append(fail("worker", "no Redis is named, and no engine runs", "set HAULAGE_REDIS_URL"))
    if "machine" in groups:
        found += _machine(settings)
    if "profiles" in groups:
        found += profiles.checks(settings, bucket=bucket)
    return found


def _redis_and_fleet(client: redis.Redis, settings: Settings, groups: set[str]) -> list[Check]:
    found = [reach.reachable(client, settings.redis)]
    if found[0].status is Status.FAIL:
        return found
    if "redis" in groups:
        found += server.checks(client)
    with closing(connect_broker(settings, retry_seconds=0)) as broker:
        if settings.broker_url is not None:
            found.append(reach.reachable(broker, settings.broker_url.get_secret_value(), name="broker_reachable"))
        if found[-1].name != "broker_reachable" or found[-1].status is not Status.FAIL:
            found += server.rights(broker) if "redis" in groups else []
            found += _fleet(Ledger(client, settings), broker) if "fleet" in groups else []
    return found


def _fleet(ledger: Ledger, broker: redis.Redis) -> list[Check]:
    """A user without all rights still sees the other checks."""
    try:
        return fleet.checks(
            Fleet(ledger).workers(),
            fleet.waiting_messages(broker),
            version=_version(),
            lease_seconds=ledger.settings.lease_seconds,
            oldest_queued_seconds=ledger.oldest_queued_seconds(),
            sessions=ledger.sessions(),
        )
    except (LedgerUnavailable, redis.RedisError) as exc:
        return [fail("fleet", f"cannot be looked at: {exc}", "give the user the rights in deploy/redis/users.acl")]


def _version() -> str:
    try:
        return installed("haulage")
    except PackageNotFoundError:
        return "0"


def _this_worker(client: redis.Redis, settings: Settings) -> Check:
    """No Redis is no reason to restart a worker: it waits for Redis itself, and a restart would not bring it back."""
    try:
        return fleet.this_worker(Fleet(Ledger(client, settings)).workers(), settings.host, settings.pools)
    except LedgerUnavailable as exc:
        return warn("worker", f"unknown: {exc}", "start Redis; the worker goes on by itself then")


def _machine(settings: Settings) -> list[Check]:
    wanted = {"s3"} if any(_is_s3(settings, name) for name in settings.profile_names()) else set()
    found = [machine.open_files(), machine.disk_space("temporary_space", Path(tempfile.gettempdir()))]
    if wants_engine(settings):
        found.append(machine.disk_space("engine_space", place_of(settings.engine_folder).folder))
    return [*found, machine.extras(wanted=wanted)]


def _is_s3(settings: Settings, name: str) -> bool:
    try:
        profile = settings.profile(name)
    except (OSError, UnicodeDecodeError):
        return False  # the check of the profile itself says so
    return profile is not None and profiles.is_s3(profile)


def failed(checks: Iterable[Check]) -> bool:
    """Whether anything makes ``haulage doctor`` exit with 1."""
    return any(each.status is Status.FAIL for each in checks)
