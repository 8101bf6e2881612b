"""Haulage: distributed, resumable file transfer. ``from haulage import TransferClient`` is the documented import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import orchestrator
import providers

for _package in (orchestrator, providers):
    if not getattr(_package, "__haulage__", False):
        raise ImportError(
            f"the module {_package.__name__!r} at {_package.__file__} hides the one that Haulage installs; "
            "rename it or move it off sys.path"
        )

if TYPE_CHECKING:
    from haulage.aio import AsyncTransferClient
    from haulage.client import TransferClient
    from haulage.records import TransferRecord, status_number
    from orchestrator.errors import (
        ClientClosed,
        DuplicateTransfer,
        HaulageError,
        InvalidSpec,
        InvalidState,
        LedgerUnavailable,
        QueueFull,
        SubmitFailed,
        TransferCancelled,
        TransferEnded,
        TransferFailed,
        TransferNotFound,
        WaitTimeout,
    )
    from orchestrator.events import Event
    from orchestrator.listeners import Update
    from orchestrator.progress import Progress
    from orchestrator.settings import Settings
    from orchestrator.states import State
    from orchestrator.steering import BulkResult
    from orchestrator.submitting import Submission
    from orchestrator.views import Snapshot, Transfer
    from providers.plans import PresignedDownload, PresignedUpload
    from providers.plans_signing import (
        check_signer_request,
        plan_presigned_download,
        plan_presigned_upload,
        presign_again,
    )

__all__ = [
    "AsyncTransferClient",
    "BulkResult",
    "ClientClosed",
    "DuplicateTransfer",
    "Event",
    "HaulageError",
    "InvalidSpec",
    "InvalidState",
    "LedgerUnavailable",
    "PresignedDownload",
    "PresignedUpload",
    "Progress",
    "QueueFull",
    "Settings",
    "Snapshot",
    "State",
    "Submission",
    "SubmitFailed",
    "Transfer",
    "TransferCancelled",
    "TransferClient",
    "TransferEnded",
    "TransferFailed",
    "TransferNotFound",
    "TransferRecord",
    "Update",
    "WaitTimeout",
    "check_signer_request",
    "plan_presigned_download",
    "plan_presigned_upload",
    "presign_again",
    "status_number",
]

# An import of this package costs next to nothing, and neither Celery nor Redis is loaded before a call needs it.
_HOME = {
    "AsyncTransferClient": "haulage.aio",
    "BulkResult": "orchestrator.steering",
    "Event": "orchestrator.events",
    "PresignedDownload": "providers.plans",
    "PresignedUpload": "providers.plans",
    "Progress": "orchestrator.progress",
    "Settings": "orchestrator.settings",
    "Snapshot": "orchestrator.views",
    "State": "orchestrator.states",
    "Submission": "orchestrator.submitting",
    "Transfer": "orchestrator.views",
    "TransferClient": "haulage.client",
    "TransferRecord": "haulage.records",
    "Update": "orchestrator.listeners",
    "check_signer_request": "providers.plans_signing",
    "plan_presigned_download": "providers.plans_signing",
    "plan_presigned_upload": "providers.plans_signing",
    "presign_again": "providers.plans_signing",
    "status_number": "haulage.records",
}
"""Where each name lives; the others are errors."""


if not TYPE_CHECKING:  # else a misspelt name would pass type checkers

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME.get(name, "orchestrator.errors")), name)
        globals()[name] = value  # found at once the next time
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
