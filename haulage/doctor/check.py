"""What one look at the installation found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """``warn`` asks for attention and breaks nothing; only ``fail`` makes ``haulage doctor`` exit with 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: a stable ``name``, a sentence without secrets, and what to do where something is wrong."""

    name: str
    status: Status
    message: str
    try_this: str = ""


def ok(name: str, message: str) -> Check:
    """All is well; the message gives the figure, so that a person can see how well."""
    return Check(name, Status.OK, message)


def warn(name: str, message: str, try_this: str) -> Check:
    """It works, and will not always."""
    return Check(name, Status.WARN, message, try_this)


def fail(name: str, message: str, try_this: str) -> Check:
    """Transfers fail, stand still or may be lost."""
    return Check(name, Status.FAIL, message, try_this)
