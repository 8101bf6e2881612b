"""Objects reached by requests that somebody else signed: a plan is the place, as a source or as a destination.

Every request is sent exactly as it was signed; User-Agent and Accept-Encoding are added where it has none. Redirects
of writes are not followed, and the application's own session adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from providers.base import (
    BUFFER_BYTES,
    Body,
    ByteRange,
    Destination,
    ObjectStat,
    Options,
    Part,
    PartLimits,
    PartReceipt,
    Profile,
    Services,
    Source,
    UploadId,
    UploadPlan,
    Validator,
)
from providers.errors import (
    ChecksumMismatch,
    CompletionUnknown,
    CredentialExpired,
    DestinationExists,
    Forbidden,
    InvalidPart,
    InvalidValue,
    LengthUnknown,
    ProviderError,
    ResponseStatusError,
    ServerFault,
    SignerUnavailable,
    TransportError,
)
from providers.http import HttpSource
from providers.plans import PresignedDownload, PresignedUpload, ResumedPart, SignedRequest, sent_headers
from providers.presigned_bodies import completion_body, error_in, etag_in
from providers.presigned_signing import RequestName, SignedDownload, SignedUpload
from providers.range_reply import content_length
from providers.reply import Reply, status_error
from providers.s3_proof import joined_etag
from providers.schemes import PRESIGNED_LIMITS, Location, parse
from providers.transport import Transport, TransportConfig, transport_for

_SILENT_SECONDS = 300.0
"""A store may say nothing while it joins 10,000 parts."""
_REFUSED = frozenset({400, 401, 403})
_LATE = (b"expired", b"time frame", b"Expired")
_UNHEARD = frozenset({502, 504})
"""Said by somebody between us and the store, who does not know what became of the request."""
_MAY_BE_REPEATED = 2


def source(location: Location, profile: Profile, options: Options, services: Services) -> PresignedSource:
    """Raises ProviderUnavailable where no plans are kept."""
    return PresignedSource(location, profile, options, services)


def destination(location: Location, profile: Profile, options: Options, services: Services) -> PresignedDestination:
    """Raises as ``source`` does."""
    return PresignedDestination(location, profile, options, services)


class PresignedSource(Source):
    """Read by ranges, as any URL is; each request by one snapshot of URL and headers (RC-99)."""

    def __init__(self, location: Location, profile: Profile, options: Options, services: Services) -> None:
        self._shown = location.shown
        self._signed = SignedDownload(options.transfer_id, profile, services)
        self._options = replace(options, method=None)
        self._profile = _bare(profile)
        self._services = replace(services, session_factory=None)

    def stat(self) -> ObjectStat:
        """With ``total_size`` one byte is read and no HEAD sent; else ``head_url``, or HEAD of the range's own URL."""
        plan = self._snapshot()
        try:
            return self._look(plan)
        except (Forbidden, CredentialExpired) as exc:
            return self._look(self._other(plan, exc))

    def read_range(self, span: ByteRange, *, validator: Validator) -> Body:
        plan = self._snapshot()
        try:
            return self._at(plan).read_range(span, validator=validator)
        except (Forbidden, CredentialExpired) as exc:
            return self._at(self._other(plan, exc)).read_range(span, validator=validator)

    def read_unsized(self, *, validator: Validator) -> Body:
        """The whole object as one stream; ``size_bytes`` is -1 if only its end tells."""
        return self._at(self._snapshot()).read_unsized(validator=validator)

    def _snapshot(self) -> PresignedDownload:
        plan = self._signed.snapshot()
        if plan is None:
            raise CredentialExpired(f"{self._shown}: the URL ran out")
        return plan

    def _other(self, refused: PresignedDownload, exc: ProviderError) -> PresignedDownload:
        plan = self._signed.snapshot(unlike=refused)
        if plan is None:
            raise exc
        return plan

    def _look(self, plan: PresignedDownload) -> ObjectStat:
        if plan.total_size is None and plan.head_url:
            return self._at(plan, url=plan.head_url, headers=plan.head_headers).stat()
        return self._at(plan).stat()

    def _at(
        self, plan: PresignedDownload, *, url: str | None = None, headers: dict[str, str] | None = None
    ) -> HttpSource:
        size = plan.total_size if plan.total_size is not None else self._options.size_bytes
        options = replace(
            self._options, headers=plan.range_headers if headers is None else headers, size_bytes=None if url else size
        )
        return HttpSource(parse(url or plan.range_url, "source"), self._profile, options, self._services)


class PresignedDestination(Destination):
    """Written part by part; the application opened the upload, and says how it ends (RC-90..98)."""

    limits: PartLimits = PRESIGNED_LIMITS

    def __init__(self, location: Location, profile: Profile, options: Options, services: Services) -> None:
        self._shown = location.shown
        self._signed = SignedUpload(options.transfer_id, profile, services)
        config = TransportConfig(
            connect_seconds=services.connect_seconds,
            read_seconds=services.read_seconds,
            minimum_bytes_per_second=services.minimum_bytes_per_second,
            stall_seconds=services.stall_seconds,
            ca_file=profile.get("ca_file"),
            proxy=profile.get("proxy"),
            ipv6=options.ipv6,
        )
        self._transport: Transport = transport_for(config)
        self._patient: Transport = transport_for(
            replace(config, read_seconds=max(services.read_seconds, _SILENT_SECONDS))
        )
        self._head: PresignedUpload | None = None
        self._resumed: dict[int, ResumedPart] = {}

    def keeps_upload(self) -> bool:
        """No other can be opened from here."""
        return True

    def existing(self) -> ObjectStat | None:
        """None too where the plan has no ``head_request``, or the store does not tell: S3 may say 403 for 404."""
        reply = self._send("head_request", b"")
        if reply is None or reply.status in (401, 403, 404, 410):
            return None
        if not reply.ok:
            raise self._error(reply, "HEAD")
        return _stat(reply, content_length(reply.headers))

    def create_upload(self, plan: UploadPlan) -> UploadId:
        """Opens nothing. The parts are those of the plan, or nothing is begun."""
        head = self._signed.head()
        if plan.size_bytes is None:
            raise LengthUnknown(f"{self._shown}: a presigned plan is made for a known size")
        if (plan.size_bytes, plan.part_count) != (head.total_size, head.part_count):
            raise InvalidValue("total_size", head.total_size, f"the size of the source, {plan.size_bytes}")
        return UploadId(head.upload_id or "plan")

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """Raises TransportError, to be sent again, after a refusal that a new signature may mend: once a part."""
        head, index = self._plan(), part.number - 1
        if head.span(index) != (part.span.start, part.size_bytes):
            raise InvalidPart(f"{self._shown}: part {part.number} is not one of the plan's")
        stored = self._resumed.get(index)
        if stored is not None or (not part.size_bytes and self._has_no_part(head)):
            _pass(body)  # its checksum is needed for that of the whole
            return PartReceipt(part.number, part.size_bytes, stored.etag if stored else "")
        signed = self._signed.part(head, index)
        reply = self._transport.put(
            signed.url, body, method=signed.method, headers=sent_headers(signed.headers), size_bytes=part.size_bytes
        )
        if reply.ok:
            return PartReceipt(part.number, part.size_bytes, reply.headers.get("ETag", ""))
        error = self._error(reply, f"{signed.method} part {part.number} of")
        if isinstance(error, Forbidden | CredentialExpired) and self._signed.after_refusal(index, signed):
            raise TransportError(
                f"{self._shown}: the URL of part {part.number} was refused and signed anew", status=reply.status
            )
        raise error

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        """Without ``complete_request`` success is local. A completion that nobody answered is sent once more."""
        head = self._signed.head()
        ordered = sorted(receipts, key=lambda each: each.number)
        if head.complete_request is None:
            size = sum(each.size_bytes for each in ordered)
            return ObjectStat(size, Validator("none"), False, metadata={"verified": "no"})
        body = completion_body(head, head.complete_request, ordered, self._signed.store_ids(head))
        asked = asked_before = self._signed.asked()
        while asked < _MAY_BE_REPEATED:
            self._signed.note_asked(asked + 1)
            reply = self._complete_once(body, asked)
            if reply is not None:
                return self._completed(head, reply, ordered, asked_before or asked)
            asked += 1
        return self._found(ordered, "nobody answered")

    def _complete_once(self, body: bytes, asked: int) -> Reply | None:
        """None: no answer was heard. What surely had no effect is not counted."""
        try:
            reply = self._send("complete_request", body)
        except ProviderError as exc:
            if isinstance(exc, TransportError) and exc.sent:
                return None
            self._signed.note_asked(asked)
            raise
        if reply is not None and reply.status in _UNHEARD:
            return None
        if reply is not None and not reply.ok:
            self._signed.note_asked(asked)
        return reply

    def _completed(
        self, head: PresignedUpload, reply: Reply, receipts: Sequence[PartReceipt], asked_before: int
    ) -> ObjectStat:
        code = error_in(reply.body) if head.complete_body_builder in ("s3", "oss") else ""
        if reply.ok and code:
            kind = ServerFault if code in ("InternalError", "SlowDown") else ResponseStatusError
            self._signed.note_asked(0)
            raise kind(f"complete {self._shown}: {code} (in a reply of status {reply.status})", status=reply.status)
        if not reply.ok:
            error = self._error(reply, "complete")
            if asked_before and not error.retryable and not isinstance(error, CredentialExpired):
                return self._found(receipts, f"status {reply.status}")
            raise error
        etag = reply.headers.get("ETag") or etag_in(reply.body)
        size = sum(each.size_bytes for each in receipts)
        return self._verified(size, etag, is_proven=bool(etag) and _plain(etag) == joined_etag(receipts))

    def _verified(self, size: int, etag: str, *, is_proven: bool) -> ObjectStat:
        found = None
        with suppress(TransportError, ResponseStatusError, CredentialExpired, SignerUnavailable):
            found = self.existing()  # the object is there: to ask in vain must not send the completion again
        if found is not None and found.size_bytes not in (None, size):
            raise ChecksumMismatch(f"{self._shown}: {found.size_bytes} bytes are there, {size} were sent")
        if is_proven or (found is not None and found.size_bytes == size):
            return ObjectStat(size, Validator("etag", etag) if etag else Validator("none"), False, etag=etag or None)
        return ObjectStat(size, Validator("none"), False, etag=etag or None, metadata={"verified": "no"})

    def _found(self, receipts: Sequence[PartReceipt], why: str) -> ObjectStat:
        """After a lost reply the object is ours by its ETag, never by its size alone."""
        found = self.existing()
        size, etag = sum(each.size_bytes for each in receipts), joined_etag(receipts)
        if found is not None and found.etag and etag and _plain(found.etag) == etag and found.size_bytes == size:
            return found
        self._signed.note_asked(0)  # a retry by hand may send it again
        raise CompletionUnknown(f"{self._shown}: the reply to the completion was lost ({why}): look at the object")

    def abort_upload(self, upload: UploadId) -> None:
        """By the plan's ``abort_request``; without one the application drops what was stored."""
        reply = self._send("abort_request", b"")
        if reply is not None and not reply.ok and reply.status not in (404, 410):
            raise self._error(reply, "abort")

    def _plan(self) -> PresignedUpload:
        """Kept: what a part needs of it never changes but for the signer's own settings."""
        if self._head is None:
            head = self._signed.head()
            self._resumed = dict(head.resumed())
            self._head = head
        return self._head

    def _has_no_part(self, head: PresignedUpload) -> bool:
        return head.signer is None and not self._signed.has_page(0)

    def _send(self, name: RequestName, body: bytes) -> Reply | None:
        """None: the plan has no such request. One that is refused is signed anew and sent again, once."""
        request = self._signed.request(name)
        if request is None:
            return None
        reply = self._send_once(request, body)
        if reply.status in _REFUSED and isinstance(self._error(reply, name), Forbidden | CredentialExpired):
            other = self._signed.request(name, unlike=request)
            return reply if other is None else self._send_once(other, body)
        return reply

    def _send_once(self, request: SignedRequest, body: bytes) -> Reply:
        data = request.body.encode() if request.body is not None else body
        headers = sent_headers(request.headers)
        if data[:1] == b"{" and not any(each.lower() == "content-type" for each in headers):
            headers["Content-Type"] = "application/json"
        return self._patient.request(request.method, request.url, headers=headers, data=data or None)

    def _error(self, reply: Reply, what: str) -> ProviderError:
        """Stores say in words that a URL ran out; the words are looked at, and not repeated."""
        if reply.status in _REFUSED and any(each in reply.body for each in _LATE):
            return CredentialExpired(f"{what} {self._shown}: the URL ran out", status=reply.status)
        if reply.status == 412:
            return DestinationExists(f"{what} {self._shown}: something is already there", status=412)
        return status_error(reply, what=f"{what} {self._shown}")


def _bare(profile: Profile) -> Profile:
    """How to connect, and nothing that would be sent along."""
    return Profile(profile.name, {key: text for key, text in profile.values.items() if key in ("ca_file", "proxy")})


def _stat(reply: Reply, size: int | None) -> ObjectStat:
    etag = reply.headers.get("ETag")
    return ObjectStat(size, Validator("etag", etag) if etag else Validator("none"), False, etag=etag)


def _plain(etag: str) -> str:
    return etag.strip('"').lower()


def _pass(body: Body) -> None:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while body.readinto(buffer):
        pass
