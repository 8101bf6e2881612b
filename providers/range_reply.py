"""Is this reply the range that was asked for, and does its body hold what its head promised?"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from requests import Response

from providers.base import ByteRange, Validator
from providers.errors import InvalidRange, LengthUnknown, ProviderError, SourceChanged, TransportError
from providers.http_errors import transport_errors
from providers.reply import Reply
from providers.schemes import redact
from providers.wire import SpeedWatch, wire_reply

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,19})")
_IDENTITY = ("", "identity")
_REPLY_HEADER = {"etag": "ETag", "last_modified": "Last-Modified", "version": "x-amz-version-id"}


def pinning_headers(validator: Validator) -> dict[str, str]:
    """The condition under which the server may answer at all."""
    name = {"etag": "If-Match", "last_modified": "If-Unmodified-Since"}.get(validator.kind)
    return {name: validator.value} if name else {}


def content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "").strip().lower() not in _IDENTITY


def content_range(headers: Mapping[str, str]) -> tuple[ByteRange, int | None] | None:
    """The span that a 206 holds, and the object's size if it says so."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return ByteRange(int(match[1]), int(match[2]) + 1), None if match[3] == "*" else int(match[3])


def check_uncoded(head: Reply) -> None:
    if is_encoded(head.headers):
        raise InvalidRange(f"{redact(head.url)}: the body is coded, its bytes are not the object's", status=head.status)


def check_range(head: Reply, span: ByteRange, total: int | None, validator: Validator) -> None:
    """Refuse a 206 or 200 that is not exactly ``span`` of the pinned object, before a byte of it is read."""
    shown, length = redact(head.url), content_length(head.headers)
    check_pinned(head, validator)
    if head.status == 206:
        found = content_range(head.headers)
        if found is None or found[0] != span:
            raise InvalidRange(f"{shown}: Content-Range is not {span.header}", status=206)
        if total is not None and found[1] not in (None, total):
            raise SourceChanged(f"{shown}: the object has {found[1]} bytes now, not {total}", status=206)
    else:
        whole = total if total is not None else length
        if span.start or span.stop != whole:
            raise InvalidRange(f"{shown}: the server answers with the whole object instead of a range", status=200)
        if length not in (None, whole):
            raise SourceChanged(f"{shown}: the object has {length} bytes now, not {whole}", status=200)
    if length is not None and length > span.size_bytes:
        raise InvalidRange(f"{shown}: {length} bytes announced for {span.size_bytes}", status=head.status)
    if length is not None and length < span.size_bytes:
        raise TransportError(f"{shown}: only {length} bytes announced of {span.size_bytes}", status=head.status)


def check_whole(head: Reply, total: int | None, validator: Validator) -> int | None:
    """The size of a reply without a range, None when only its end will tell. Raises LengthUnknown, SourceChanged."""
    shown, length = redact(head.url), content_length(head.headers)
    check_pinned(head, validator)
    if head.status != 200:
        raise InvalidRange(f"{shown}: status {head.status} to a request for the whole object", status=head.status)
    chunked = "chunked" in head.headers.get("Transfer-Encoding", "").lower()
    if chunked:
        return total
    if total is not None and length not in (None, total):
        raise SourceChanged(f"{shown}: the object has {length} bytes now, not {total}", status=200)
    if length is None and total is None:  # cut short it would look whole
        raise LengthUnknown(f"{shown}: the body ends with the connection and names no length", status=200)
    return length if length is not None else total


def check_pinned(head: Reply, validator: Validator) -> None:
    """The validator on *every* reply: servers exist that ignore If-Match."""
    name = _REPLY_HEADER.get(validator.kind)
    if name is None:
        return
    found = head.headers.get(name)
    if found is None and validator.kind == "version":
        return  # the version is part of the request; an answer need not repeat it
    if found != validator.value:
        missing = "is missing" if found is None else "is another one"
        raise SourceChanged(f"{redact(head.url)}: the {name} that was pinned {missing}", status=head.status)


def unsatisfied(head: Reply, total: int | None) -> ProviderError:
    """What a 416 means: the object has shrunk, or the range made no sense."""
    match = _UNSATISFIED.fullmatch(head.headers.get("Content-Range", "").strip())
    if match and total is not None and int(match[1]) != total:
        return SourceChanged(f"{redact(head.url)}: the object has {match[1]} bytes now, not {total}", status=416)
    return InvalidRange(f"{redact(head.url)}: the range is not satisfiable", status=416)


class ReplyBody:
    """A Body over a reply: counts, watches the speed, gives the connection back after the last byte."""

    def __init__(self, response: Response, size_bytes: int | None, watch: SpeedWatch) -> None:
        self.size_bytes = -1 if size_bytes is None else size_bytes
        """-1: unknown until the end."""
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._reply = wire_reply(response)
        self._url = response.url
        self._left = size_bytes
        self._watch = watch
        self._open = True

    def readinto(self, buffer: memoryview) -> int:
        if not self._open or not buffer:
            return 0
        try:
            if self._left == 0:
                return self._end()
            return self._read(buffer if self._left is None else buffer[: self._left])
        except BaseException:
            self.close()
            raise

    def _read(self, view: memoryview) -> int:
        began = time.monotonic()
        with transport_errors(self._url, in_body=True):
            count: int = self._reply.readinto(view)
        self._watch.passed(count, time.monotonic() - began)
        if self._left is None:
            return count or self._end()
        if not count:
            raise TransportError(f"{redact(self._url)}: the body ended {self._left} bytes early")
        self._left -= count
        if not self._left:
            self._end()
        return count

    def _end(self) -> int:
        """Make sure that nothing follows, and keep the connection. A chunked body is over only with its last chunk."""
        if not self._reply.isclosed():
            with transport_errors(self._url, in_body=True):
                if self._reply.readinto(bytearray(1)):
                    raise InvalidRange(f"{redact(self._url)}: the body is longer than {self.size_bytes} bytes")
        self._open = False
        self._reply.release()  # before close(), which alone would cost a new connection per part
        self._response.close()
        return 0

    def close(self) -> None:
        """A body left half-read takes its connection with it: the rest would be read as the next reply."""
        if self._open:
            self._open = False
            self._response.close()
