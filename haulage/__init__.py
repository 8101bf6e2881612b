"""Haulage: distributed, resumable file transfer. ``from haulage import TransferClient`` is the documented import."""

import orchestrator
import providers

for _package in (orchestrator, providers):
    if not getattr(_package, "__haulage__", False):
        raise ImportError(
            f"the module {_package.__name__!r} at {_package.__file__} hides the one that Haulage installs; "
            "rename it or move it off sys.path"
        )

# ruff: noqa: E402 - what hides our packages must be named before their first import fails in a less helpful way
from orchestrator.client import Transfer, TransferClient
from orchestrator.errors import (
    ClientClosed,
    DuplicateTransfer,
    HaulageError,
    InvalidSpec,
    InvalidState,
    LedgerUnavailable,
    QueueFull,
    TransferCancelled,
    TransferEnded,
    TransferFailed,
    TransferNotFound,
    WaitTimeout,
)
from orchestrator.events import Event
from orchestrator.progress import Progress
from orchestrator.settings import Settings
from orchestrator.states import State

__all__ = [
    "ClientClosed",
    "DuplicateTransfer",
    "Event",
    "HaulageError",
    "InvalidSpec",
    "InvalidState",
    "LedgerUnavailable",
    "Progress",
    "QueueFull",
    "Settings",
    "State",
    "Transfer",
    "TransferCancelled",
    "TransferClient",
    "TransferEnded",
    "TransferFailed",
    "TransferNotFound",
    "WaitTimeout",
]
