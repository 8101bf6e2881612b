"""``chunked+http(s)://``: one address that takes files in by form posts, one after the other, and says where to go on.

    POST fileMd5 fileName category totalSize                              -> {"nextByte": 0}
    POST file fileMd5 fileName category offset partSize totalSize         -> {"nextByte": 8388608}
    ...                                                                   -> {"fileId": "9f2c"}

The server keeps a file by (fileMd5, fileName) and takes bytes again that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from providers.base import (
    Body,
    Destination,
    NeedsSourceHash,
    ObjectStat,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReportsOffset,
    Services,
    UploadId,
    UploadPlan,
    Validator,
)
from providers.chunked_http_form import Answer, Form, read_answer
from providers.errors import (
    InvalidValue,
    LengthUnknown,
    OffsetMoved,
    ProviderError,
    ResponseParseError,
    ResponseStatusError,
    UploadNotFound,
)
from providers.http import _check_host, _headers, _transport, _verb
from providers.receipts import in_order
from providers.reply import Reply, status_error
from providers.schemes import CHUNKED_LIMITS, Location

_SHOWN_CHARACTERS = 200
"""Of the body of a refusal, in the error's text."""


def destination(location: Location, profile: Profile, options: Options, services: Services) -> ChunkedDestination:
    """Raises InvalidValue for what profile or options may not hold, ProviderUnavailable for unusable certificates."""
    _check_host(profile, location)
    return ChunkedDestination(location, profile, options, services)


@dataclass(frozen=True, slots=True)
class _Upload:
    """What an upload is named by; ``offset`` is what the server held when it was opened."""

    md5: str
    size_bytes: int
    offset: int

    @property
    def id(self) -> UploadId:
        return UploadId(f"{self.md5}.{self.size_bytes}.{self.offset}")

    @classmethod
    def decode(cls, upload: UploadId) -> Self:
        md5, size, offset = [*upload.split("."), "", "", ""][:3]
        if not size.isdigit() or not offset.isdigit():
            raise UploadNotFound("this is no upload of the chunked HTTP protocol")
        return cls(md5, int(size), int(offset))


class ChunkedDestination(Destination, NeedsSourceHash, ReportsOffset):
    """One file at such an address. The protocol cannot list, abort or read back."""

    limits = CHUNKED_LIMITS

    def __init__(self, location: Location, profile: Profile, options: Options, services: Services) -> None:
        self._url = location.url.removeprefix("chunked+").partition("#")[0]
        self._shown, self._name = location.shown, location.key
        self._method = _verb(options.method or profile.get("method"), ("POST", "PUT", "PATCH"), "POST")
        self._category = profile.get("category") or ""
        headers = _headers(profile, options)
        self._headers = {name: text for name, text in headers.items() if name.lower() != "content-type"}
        self._transport = _transport(profile, options, services)
        self._heard: dict[UploadId, int] = {}
        self._file_ids: dict[UploadId, str] = {}

    def existing(self) -> ObjectStat | None:
        """The protocol does not ask without the hash of what is to come."""
        return None

    def source_hash(self) -> str:
        return "md5"

    def create_upload(self, plan: UploadPlan) -> UploadId:
        if plan.size_bytes is None:
            raise LengthUnknown(f"{self._shown}: the server must be told the whole size beforehand")
        if not plan.source_hash:
            raise InvalidValue("source_hash", plan.source_hash, "the MD5 of the whole source, in hexadecimal")
        upload = _Upload(plan.source_hash, plan.size_bytes, 0)
        answer = self._prepare(upload)
        held = plan.size_bytes if answer.file_id else min(answer.next_byte or 0, plan.size_bytes)
        return _Upload(upload.md5, upload.size_bytes, held).id

    def offset(self, upload: UploadId, *, at: int, again: bool, resumed: bool = False) -> int:
        """What the last answer said, if it is known to be the last; else a prepare request asks."""
        named = _Upload.decode(upload)
        heard = self._heard.get(upload, -1 if resumed else named.offset)
        if not again and heard >= at:
            return heard  # less: another process has sent since
        return self._take(upload, named, self._prepare(named), otherwise=at)

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """Send the bytes of ``part``; of an empty part none."""
        named = _Upload.decode(upload)
        if part.size_bytes:
            self._heard.pop(upload, None)
            span = part.span
            form = Form(
                {**self._names(named), "offset": span.start, "partSize": span.size_bytes, "totalSize": named.size_bytes}
            )
            reply = self._transport.put(
                self._url,
                form.around(body, span.size_bytes),
                method=self._method,
                headers={**self._headers, "Content-Type": form.content_type},
            )
            following = self._take(upload, named, self._judged(reply), otherwise=span.stop)
            if following < span.stop:
                raise OffsetMoved(
                    f"{self._shown}: the server goes on at byte {following}, after {span.stop} were sent",
                    offset=following,
                )
        return PartReceipt(part.number, part.size_bytes, self._file_ids.get(upload, ""))

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        """Nothing to commit: the last answer said that all is there. ``payload`` is the server's id of the file."""
        named = _Upload.decode(upload)
        ordered = in_order(receipts, named.size_bytes)
        payload = next((each.etag for each in ordered if each.etag), None)
        metadata = {} if payload is None else {"payload": payload}
        return ObjectStat(named.size_bytes, Validator("none"), accepts_ranges=False, metadata=metadata)

    def abort_upload(self, upload: UploadId) -> None:
        """The protocol has no request for it: what the server holds is its own to clean up."""

    def _prepare(self, named: _Upload) -> Answer:
        form = Form({**self._names(named), "totalSize": named.size_bytes})
        headers = {**self._headers, "Content-Type": form.content_type}
        return self._judged(self._transport.request(self._method, self._url, headers=headers, data=form.alone()))

    def _names(self, named: _Upload) -> Mapping[str, str]:
        return {"fileMd5": named.md5, "fileName": self._name, "category": self._category}

    def _take(self, upload: UploadId, named: _Upload, answer: Answer, *, otherwise: int) -> int:
        """Remember an answer; gives the offset it means."""
        following = otherwise if answer.next_byte is None else answer.next_byte
        if answer.file_id:
            self._file_ids[upload] = answer.file_id
            following = named.size_bytes
        self._heard[upload] = min(following, named.size_bytes)
        return self._heard[upload]

    def _judged(self, reply: Reply) -> Answer:
        if not reply.ok:
            raise self._refusal(reply)
        try:
            return read_answer(reply.body)
        except ResponseParseError as exc:
            raise ResponseParseError(f"{self._shown}: {exc}") from None

    def _refusal(self, reply: Reply) -> ProviderError:
        words = " ".join(reply.body.decode(errors="replace").split())[:_SHOWN_CHARACTERS]
        said = f"{self._method} {self._shown}" + (f" answered {words!r}" if words else "")
        if reply.status == 412:  # nothing here is pinned: it is not the source that changed
            return ResponseStatusError(f"{said}: status 412", status=412)
        return status_error(reply, what=said)
