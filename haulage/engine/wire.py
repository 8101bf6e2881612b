"""The engine's socket, and what client and engine say to each other on it: one JSON object a line.

The client says first what it wants: ``{"want": "lifeline" | "status" | "stop", "version": ..., "settings": ...}``.
With a lifeline come ``"variables"``, the fingerprints by name of what ``settings`` is the digest of; an engine that is
ready with others answers their names in ``"older"``.
The engine answers ``{"ready": ...}``, ``{"failed": text}``, ``{"restarting": true}``, ``{"stopping": true}`` or a
status, and may say ``{"bye": why}`` later. Unknown keys are ignored: the two may be of different versions.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from haulage.engine.folders import Place, check_private
from haulage.engine.lock import read_holder

Message = dict[str, Any]

LONGEST_BYTES = 64 << 10


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps(message).encode() + b"\n"


class Lines:
    """Whole messages out of what arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. Raises ValueError for what is none."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_BYTES:
            raise ValueError("a line without end")
        found = [json.loads(each) for each in lines]
        if not all(isinstance(each, dict) for each in found):
            raise ValueError("no JSON object")
        return found


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


def read_message(sock: socket.socket, lines: Lines) -> Message | None:
    """The next message, by the socket's time-out; None when the other side closes. Raises TimeoutError."""
    while True:
        try:
            data = sock.recv(4096)
        except ConnectionError:
            return None
        if not data:
            return None
        if found := lines.feed(data):
            return found[0]
