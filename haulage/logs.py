"""One listener per process for everything Haulage logs: for a debug view, or to bring logs to the application's own.

It hangs on the standard loggers ``haulage``, ``orchestrator``, ``providers`` and ``workers``; no secret reaches it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from providers.schemes import safe_text

LOGGERS = ("haulage", "orchestrator", "providers", "workers")

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_ABOUT = frozenset(
    {"event", "level", "logger", "timestamp", "exc_info", "_record", "_from_structlog", "_logger", "_name"}
)
_lock = threading.Lock()
_handler: _Handler | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of log. ``tag`` is the module that wrote it; ids and the error code are there where they are known."""

    timestamp_ms: int
    level: str
    tag: str
    message: str
    transfer_id: str = ""
    part: int | None = None
    code: str = ""


Listener = Callable[[LogEntry], object]


def set_log_listener(listener: Listener, *, level: str | None = None) -> None:
    """Give every line from now on to ``listener``, in place of one that was set before.

    It is called by the thread that logs; what it raises is dropped, and what it logs itself is not given to it.
    ``level``, such as ``DEBUG``, lowers or raises the level of Haulage's loggers while it is set; None leaves it.
    """
    with _lock:
        _remove()
        _add(listener, level)


def try_set_log_listener(listener: Listener, *, level: str | None = None) -> bool:
    """As ``set_log_listener``, but only if there is none. False: there is one, and it stays."""
    with _lock:
        if _handler is not None:
            return False
        _add(listener, level)
        return True


def clear_log_listener() -> bool:
    """Take the listener away, and give the loggers their level back. False: there was none."""
    with _lock:
        return _remove()


def _add(listener: Listener, level: str | None) -> None:
    global _handler
    handler = _Handler(listener)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        handler.levels[name] = logger.level
        if level is not None:
            logger.setLevel(level)
        logger.addHandler(handler)
    _handler = handler


def _remove() -> bool:
    global _handler
    if _handler is None:
        return False
    for name, level in _handler.levels.items():
        logger = logging.getLogger(name)
        logger.removeHandler(_handler)
        logger.setLevel(level)
    _handler = None
    return True


class _Handler(logging.Handler):
    """No lock: a listener that is slow in one thread holds up no other."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.levels: dict[str, int] = {}
        self._listener = listener
        self._inside = threading.local()

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        if getattr(self._inside, "busy", False):
            return False
        self._inside.busy = True
        try:
            self._listener(entry_of(record))
        except Exception:  # noqa: S110  # a fault of a debug view must not reach what it looks at, nor be logged to itself
            pass
        finally:
            self._inside.busy = False
        return True


def entry_of(record: logging.LogRecord) -> LogEntry:
    """A record of the standard library, or of structlog on top of it, without what may be secret."""
    fields = _fields(record)
    said = (
        [str(record.msg["event"])] if isinstance(record.msg, dict) and "event" in record.msg else [record.getMessage()]
    )
    said += [f"{name}={value}" for name, value in fields.items() if name not in ("transfer_id", "part")]
    text = " ".join(said)
    if record.exc_info and record.exc_info[0]:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    part = str(fields.get("part", ""))
    return LogEntry(
        timestamp_ms=int(record.created * 1000),
        level=record.levelname,
        tag=record.name,
        message="\n".join(safe_text(line) for line in text.splitlines()),
        transfer_id=str(fields.get("transfer_id", "")),
        part=int(part) if part.isdigit() else None,
        code=str(fields.get("code", "")),
    )


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    if isinstance(record.msg, dict):
        return {name: value for name, value in record.msg.items() if name not in _ABOUT}
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}
