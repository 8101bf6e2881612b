"""Connecting to the engine of a folder, if there is one."""

from __future__ import annotations

import socket
from pathlib import Path

from haulage.engine.folders import Place, check_private
from haulage.engine.lock import read_holder


def connect_to(place: Place, *, timeout_seconds: float | None = 10.0) -> socket.socket | None:
    """A connection to the engine that listens; None when nobody does. Raises RuntimeFailed for an unsafe folder."""
    holder = read_holder(place.lock)
    if holder is None:
        return None
    sockets = Path(holder.sockets)
    if not sockets.is_dir():
        return None
    check_private(sockets)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout_seconds)
    try:
        sock.connect(str(sockets / "engine.sock"))
    except OSError:
        sock.close()
        return None
    return sock
