"""The wire form of chunked HTTP uploads: ``multipart/form-data`` of a length known beforehand, and JSON answers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from providers.base import Body
from providers.errors import ResponseParseError

_LONGEST_ID = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says of an upload; both may be missing."""

    next_byte: int | None = None
    """Where to go on; never negative."""
    file_id: str | None = None
    """The upload is whole: the server's name for it."""


def read_answer(body: bytes) -> Answer:
    """An empty body says nothing; unknown fields are ignored. Raises ResponseParseError."""
    if not body.strip():
        return Answer()
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise ResponseParseError("the answer is not JSON") from None
    if not isinstance(said, dict):
        raise ResponseParseError("the answer is not a JSON object")
    next_byte, file_id = said.get("nextByte"), said.get("fileId")
    if next_byte is not None and (not isinstance(next_byte, int) or isinstance(next_byte, bool)):
        raise ResponseParseError("nextByte is not an integer")
    if file_id is not None and (not isinstance(file_id, str) or len(file_id) > _LONGEST_ID):
        raise ResponseParseError(f"fileId is not a text of at most {_LONGEST_ID} characters")
    return Answer(None if next_byte is None else max(0, next_byte), file_id or None)


class Form:
    """The text fields, in the order given."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.boundary = f"haulage{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={self.boundary}"
        self._texts = b"".join(self._part(f'name="{name}"') + f"{text}\r\n".encode() for name, text in fields.items())

    def alone(self) -> bytes:
        """A form without a file."""
        return self._texts + self._end()

    def around(self, body: Body, size_bytes: int) -> FormBody:
        """A form whose first field, ``file``, is the next ``size_bytes`` of ``body``."""
        head = self._part('name="file"; filename="upload_chunk_data"', "Content-Type: application/octet-stream\r\n")
        return FormBody(head, body, size_bytes, b"\r\n" + self._texts + self._end())

    def _part(self, what: str, more: str = "") -> bytes:
        return f"--{self.boundary}\r\nContent-Disposition: form-data; {what}\r\n{more}\r\n".encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


class FormBody(Body):
    """A Body between a head and a tail: its bytes pass through the caller's buffer and are never gathered."""

    def __init__(self, head: bytes, body: Body, body_bytes: int, tail: bytes) -> None:
        self.size_bytes = len(head) + body_bytes + len(tail)
        self._head, self._tail = memoryview(head), memoryview(tail)
        self._body, self._left = body, body_bytes

    def readinto(self, buffer: memoryview) -> int:
        """The head goes out together with the first bytes of the body: one packet, not two."""
        count = min(len(buffer), len(self._head))
        buffer[:count], self._head = self._head[:count], self._head[count:]
        room = min(len(buffer) - count, self._left)
        if room:
            got = self._body.readinto(buffer[count : count + room])
            self._left -= got
            return count + got  # without any head: 0 says that the body ended early
        if not self._left:
            last = min(len(buffer) - count, len(self._tail))
            buffer[count : count + last], self._tail = self._tail[:last], self._tail[last:]
            count += last
        return count

    def close(self) -> None:
        self._body.close()
