"""Joins orchestrator and providers inside Celery: ``celery -A workers worker`` serves every pool of the settings."""

from typing import Any

import orchestrator
import providers

__haulage__ = True

for _package in (orchestrator, providers):
    if not getattr(_package, "__haulage__", False):
        raise ImportError(
            f"the module {_package.__name__!r} at {_package.__file__} hides the one that Haulage installs; "
            "rename it or move it off sys.path"
        )


def __getattr__(name: str) -> Any:
    """``workers.app``, for Celery's ``-A workers``, is built when first asked for."""
    if name in ("app", "celery"):
        from workers.app import app

        return app
    raise AttributeError(name)
