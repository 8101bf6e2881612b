"""Follows a transfer to its end and shows on stderr how far it is and what holds it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from haulage.cli.output import is_embedded
from haulage.cli.painter import Screen
from haulage.cli.phrases import FRESH_SECONDS, phrase

if TYPE_CHECKING:
    from haulage.cli.bar import Frame
    from haulage.cli.closer import CloserLook
    from haulage.client import TransferClient
    from orchestrator.views import Transfer

_SOONEST_SECONDS, _LATEST_SECONDS = 0.02, 0.25
_OUTAGE_SECONDS = 60.0
"""How long a Redis may be away that did answer: the transfer itself outlives it."""


class Follower:
    """``run`` blocks until the transfer has ended, ``until`` says so, or the time is over.

    ``pause_between`` sleeps between two looks: an event's ``wait`` lets a signal handler end it early.
    """

    def __init__(
        self,
        client: TransferClient,
        closer: CloserLook,
        transfer_id: str,
        screen: Screen,
        *,
        pause_between: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._client = client
        self._closer = closer
        self._id = transfer_id
        self._screen = screen
        self._sleep = pause_between
        self._position = "0"
        self._fault: dict[str, Any] | None = None
        self._fault_at = 0.0
        self._shown: Frame | None = None
        self._seen = 0.0
        self.retries = 0

    def run(
        self, *, timeout_seconds: float | None = None, until: Callable[[Transfer], bool] = lambda _: False
    ) -> Transfer:
        """Raises what ``TransferClient.wait`` raises; what is painted is removed first."""
        from orchestrator.errors import WaitTimeout

        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        between = _SOONEST_SECONDS
        try:
            while True:
                transfer = self._look()
                if transfer is not None and transfer.state.ended:
                    self._screen.clear()
                    return self._client.wait(self._id)
                if transfer is not None and until(transfer):
                    return transfer
                if deadline is not None and time.monotonic() >= deadline:
                    state = transfer.state if transfer else "out of sight"
                    raise WaitTimeout(f"transfer {self._id} is still {state} after {timeout_seconds:g} s")
                left = between if deadline is None else min(between, max(0.0, deadline - time.monotonic()))
                self._sleep(left)
                between = min(between * 1.5, _LATEST_SECONDS)
        finally:
            self._screen.clear()

    def wait_with(self, pause_between: Callable[[float], Any]) -> None:
        """Another way to sleep between two looks."""
        self._sleep = pause_between

    def _look(self) -> Transfer | None:
        """Read the ledger and show what it says. None while it does not answer, for a minute at most."""
        from orchestrator.errors import LedgerUnavailable

        try:
            transfer = self._client.get(self._id)
            if not transfer.state.ended:
                self._show(transfer)
        except LedgerUnavailable:
            if self._shown is None or time.monotonic() - self._seen > _OUTAGE_SECONDS:
                raise
            self._screen.show(dataclasses.replace(self._shown, phrase="the ledger does not answer, trying again"))
            return None
        self._seen = time.monotonic()
        return transfer

    def _show(self, transfer: Transfer) -> None:
        from haulage.cli.bar import Frame
        from haulage.cli.rows import name_of

        now = time.monotonic()
        self._read_news(now)
        details = self._closer.details(self._id)
        counts = now - self._fault_at < FRESH_SECONDS or details.wakes_in_seconds > 0
        text = phrase(transfer, details, self._fault if counts else None, embedded=is_embedded(self._client))
        self._shown = Frame(name_of(transfer), transfer.progress, self.retries, text)
        self._screen.show(self._shown)

    def _read_news(self, now: float) -> None:
        for event in self._closer.news(self._id, self._position):
            self._position = event.position
            if event.kind == "retrying":
                self.retries += 1
                self._fault = dict(event.data)
                self._fault_at = now - max(0.0, time.time() - event.at_ms / 1000)
            elif event.kind in ("started", "queued", "resumed"):
                self._fault = None


def follow(
    client: TransferClient, transfer_id: str, *, quiet: bool = False, timeout_seconds: float | None = None
) -> Transfer:
    """Like ``TransferClient.wait``, with something to look at. Ctrl-C leaves the transfer running and says so."""
    import sys

    import click

    from haulage.cli.closer import CloserLook
    from haulage.cli.painter import screen

    closer = CloserLook(client.settings)
    try:
        follower = Follower(client, closer, transfer_id, screen(quiet=quiet, clock=time.monotonic))
        return follower.run(timeout_seconds=timeout_seconds)
    except KeyboardInterrupt:
        client.keep(transfer_id)
        click.echo(f"{transfer_id} goes on without this command: haulage wait {transfer_id}", err=True)
        sys.exit(1)
    finally:
        closer.close()
