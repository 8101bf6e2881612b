"""The client of the package: the orchestrator's, which can also run on this one machine alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from orchestrator.client import TransferClient as FleetClient
from orchestrator.errors import LedgerUnavailable
from orchestrator.settings import load_settings
from orchestrator.steering import steer_many

if TYPE_CHECKING:
    from haulage.engine import Engine
    from orchestrator.settings import Settings

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 1.0


class TransferClient(FleetClient):
    """Submits transfers to a fleet, and steers them; ``embedded`` needs no fleet."""

    _engine: Engine | None = None

    @classmethod
    def embedded(cls, **overrides: Any) -> Self:
        """A client of this machine's own engine, which is started if it does not run: no Redis, no worker to set up.

        Closing the client pauses the live transfers it submitted, unless ``keep`` was called for them; ``resume`` goes
        on with them. Raises RuntimeFailed (101) that names the engine's log file.
        """
        from haulage.engine import attach

        engine = attach(load_settings(**overrides))
        try:
            client = cls(engine.settings)
        except BaseException:
            engine.close()
            raise
        client._engine = engine
        return client

    def keep(self, transfer_id: str) -> None:
        """Let this transfer go on after the client is closed: a fleet does so anyway, an engine stays."""
        self._held.check_open()
        self._held.forget(transfer_id)
        if self._engine is not None:
            self._engine.keep(transfer_id)

    def close(self) -> None:
        """Deliver what listeners are owed and give the connections back.

        A fleet goes on with the transfers. An embedded client first pauses the live ones that it submitted; an engine
        that does not answer is only warned of, because the error that brought the caller here may be about just that.
        """
        engine, self._engine = self._engine, None
        try:
            # A forked child has the parent's engine in its hands, and nothing in it that is its own.
            if engine is not None and not self.is_closed and (mine := self._held.mine()):
                _pause(engine.settings, mine)
        finally:
            super().close()
            if engine is not None:
                engine.close()


def _pause(settings: Settings, transfer_ids: list[str]) -> None:
    """Over a connection of its own, which gives up soon. What it misses, the engine pauses when it ends."""
    from orchestrator.connection import connect
    from orchestrator.ledger import Ledger

    try:
        with connect(settings, retry_seconds=_CLOSE_SECONDS) as redis:
            steer_many(Ledger(redis, settings), transfer_ids, "pause")
    except LedgerUnavailable as exc:
        log.warning("transfers were not paused at the end of their client: %s", exc)
