"""The one-machine engine, where no Redis was named: whether it runs, and how to reach its ledger. Starts nothing."""

from __future__ import annotations

from pydantic import SecretStr

from haulage.doctor.check import Check, ok, warn
from haulage.engine import status, wants_engine
from orchestrator.settings import Settings


def reached(settings: Settings) -> Settings | None:
    """The settings with the Redis that is meant: the one that was named, or the engine's. None: no engine runs."""
    if not wants_engine(settings):
        return settings
    found = status(settings)
    if found is None:
        return None
    return settings.model_copy(update={"redis_url": SecretStr(found.redis_url), "broker_url": None, "host": found.host})


def engine(settings: Settings) -> Check:
    """What the engine says of itself."""
    found = status(settings)
    if found is None:
        text = "no Redis is named, and no engine runs: the next command starts this machine's engine"
        return ok("engine", text)
    text = f"pid {found.pid}, version {found.version}, {found.lifelines} clients, in {found.folder}: {found.state}"
    if not found.worker_pids:
        return warn("engine", f"{text}, and no worker runs", f"look into {found.log_file}")
    return ok("engine", text)
