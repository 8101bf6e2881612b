"""Structured logs on stderr: one fixed event name in the past tense, fields as data, no secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from providers.schemes import safe_text

_ORCHESTRATOR_FIELDS = ("transfer_id", "task", "error")
"""What the orchestrator says through the standard library's ``extra``; fields of other libraries stay out."""


def configure_logs(level: str, style: str) -> None:
    """Route structlog and the standard library through one JSON (or console) renderer."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=renderer,
            foreign_pre_chain=[
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ExtraAdder(_ORCHESTRATOR_FIELDS),
                *shared,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their INFO is one line per task, and their DEBUG prints signed URLs and headers.
    for noisy in ("celery.worker.strategy", "celery.app.trace", "urllib3", "botocore", "boto3", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _redacted(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Whatever text looks like a URL loses query and user info, also in tracebacks of foreign libraries."""
    for key, value in event.items():
        if isinstance(value, str) and ("://" in value or "?" in value or "uthorization" in value):
            event[key] = "\n".join(safe_text(line) for line in value.split("\n"))
    return event
