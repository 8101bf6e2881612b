"""The one-machine engine: a private Valkey and a worker in one detached process per user, shared by all clients.

``attach`` finds it or starts it, and holds a lifeline to it; it leaves a while after the last lifeline is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haulage.engine.client import Engine, EngineStatus, attach, status, stop, wants_engine

__all__ = ["Engine", "EngineStatus", "attach", "status", "stop", "wants_engine"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: the engine's own process passes here too, and must be quick."""
    if name in __all__:
        from haulage.engine import client

        return getattr(client, name)
    raise AttributeError(name)
