"""Aliyun OSS: multipart upload, single PUT, ranges, server-side copy.

oss2 makes the small calls and reads their answers; they and all bytes go through ``transport.py``, signed by
``oss_signing.py``. Profile values: access_key, secret_key, security_token, endpoint, region, signature (v4, v1), cname,
internal, accelerate, ca_file, proxy, ipv6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile

from providers.base import (
    BUFFER_BYTES,
    Body,
    CopiesRange,
    Destination,
    ListsParts,
    ListsSessions,
    ListsUploads,
    ObjectStat,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReadsBack,
    Services,
    Source,
    UploadId,
    UploadPlan,
    Validator,
)
from providers.errors import (
    ChecksumMismatch,
    DestinationExists,
    Forbidden,
    NotFound,
    ObjectTooLarge,
    PartCorrupted,
    ResponseParseError,
    ServerFault,
    SourceChanged,
    UploadNotFound,
)
from providers.oss_account import OssAccount, account_for
from providers.oss_errors import oss_errors
from providers.oss_proof import (
    CRC_HEADER,
    META,
    CrcBody,
    crc_from_wire,
    crc_of,
    etag_of,
    joined_crc,
    metadata_of,
    receipt_of,
    stat_of,
)
from providers.oss_sdk import models
from providers.oss_source import OssObject, OssSource, quoted
from providers.receipts import in_order
from providers.schemes import OSS_LIMITS, Location

SINGLE = UploadId("single")
"""Stands for an upload in one PutObject: nothing is open at the store until the object is there."""
HAULAGE_ID = "haulage-id"
_PAGE = 1000
_KEPT = {"x-oss-forbid-overwrite": "true"}
_LISTED = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_FIELDS = {name: re.compile(rb"<%b>([^<]*)</%b>" % (name, name)) for name in (b"PartNumber", b"HashCrc64ecma")}


def source(location: Location, profile: Profile, options: Options, services: Services) -> OssSource:
    """No request is made yet. Raises ProviderUnavailable, InvalidValue."""
    return OssSource(account_for(profile, options, services), location.bucket, location.key)


def destination(location: Location, profile: Profile, options: Options, services: Services) -> OssDestination:
    """No request is made yet. Raises ProviderUnavailable, InvalidValue."""
    return OssDestination(account_for(profile, options, services), location.bucket, location.key, options)


class OssDestination(OssObject, Destination, ListsParts, ListsUploads, ListsSessions, CopiesRange, ReadsBack):
    """Writes one object, in parts or, if it is one part, by a single PUT.

    ``on_exists`` is checked again at the commit: with ``fail`` and ``skip`` the store itself refuses to replace.
    """

    limits = OSS_LIMITS

    def __init__(self, account: OssAccount, bucket: str, key: str, options: Options, *, page: int = _PAGE) -> None:
        super().__init__(account, bucket, key)
        self._options = options
        self._page = page
        self._keeps_existing = options.on_exists in ("fail", "skip")
        self._metadata = {HAULAGE_ID: options.transfer_id} if options.transfer_id else {}

    def existing(self) -> ObjectStat | None:
        """None too where the credential may not read."""
        with suppress(NotFound, Forbidden):
            return stat_of(self.head(), self.key)
        return None

    # writing

    def create_upload(self, plan: UploadPlan) -> UploadId:
        """Raises ObjectTooLarge before any request."""
        self._check_plan(plan)
        if plan.part_count == 1 and plan.size_bytes is not None:
            return SINGLE
        with oss_errors(f"create upload of {self.shown}"):
            found = self.bucket.init_multipart_upload(self.key, headers=self._description()).upload_id
        if not found:
            raise ResponseParseError(f"create upload of {self.shown}: no UploadId in the reply")
        return UploadId(found)

    def _check_plan(self, plan: UploadPlan) -> None:
        limits = self.limits
        if plan.part_count > limits.max_parts:
            raise ObjectTooLarge("part_count", plan.part_count, f"at most {limits.max_parts} parts")
        if plan.part_size_bytes > limits.max_part_bytes:
            raise ObjectTooLarge("part_size", plan.part_size_bytes, f"at most {limits.max_part_bytes} bytes")
        if plan.part_count > 1 and plan.part_size_bytes < limits.min_part_bytes:
            raise ObjectTooLarge("part_size", plan.part_size_bytes, f"at least {limits.min_part_bytes} bytes")
        if plan.size_bytes is not None and plan.size_bytes > limits.max_object_bytes:
            raise ObjectTooLarge("size", plan.size_bytes, f"at most {limits.max_object_bytes} bytes")

    def _description(self) -> dict[str, str]:
        """What is said of the object. The SDK would guess a type from the key, so one is always told."""
        told = {f"{META}{name}": value for name, value in self._metadata.items()}
        return {**told, "Content-Type": self._options.content_type or "application/octet-stream"}

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """The receipt's ETag holds the part's CRC-64 too. Raises PartCorrupted where the store computed another."""
        if upload == SINGLE:
            return self._put_whole(part, body)
        what = f"put part {part.number} of {self.shown}"
        url, sign = self.place
        query = f"?partNumber={part.number}&uploadId={quoted(upload)}"
        passing = CrcBody(body)
        reply = self.account.transport.put(url + query, passing, size_bytes=part.size_bytes, sign=sign)
        if not reply.ok:
            raise self.refused(reply, what)
        return _receipt(part, reply.headers, passing.crc, what)

    def _put_whole(self, part: Part, body: Body) -> PartReceipt:
        what = f"put {self.shown}"
        headers = {**self._description(), **(_KEPT if self._keeps_existing else {})}
        url, sign = self.place
        passing = CrcBody(body)
        reply = self.account.transport.put(url, passing, headers=headers, size_bytes=part.size_bytes, sign=sign)
        if reply.ok:
            try:
                return _receipt(part, reply.headers, passing.crc, what)
            except PartCorrupted:
                if self._keeps_existing:  # it is new, and would be in its own way when it is sent again
                    self.remove()
                raise
        error = self.refused(reply, what)
        if isinstance(error, DestinationExists):
            return self._put_before(part, passing, error)
        raise error

    def _put_before(self, part: Part, body: CrcBody, refused: DestinationExists) -> PartReceipt:
        """After a lost reply the object that is in the way is our own."""
        head = self._head_of_ours(part.size_bytes)
        if head is None:
            raise refused
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while body.readinto(buffer):  # whoever sums the bytes up above gets to see all of them
            pass
        return _receipt(part, head, body.crc, f"put {self.shown}")

    def _head_of_ours(self, size_bytes: int) -> Mapping[str, str] | None:
        head = self._head_if_marked()
        return head if head is not None and _size_of(head) == size_bytes else None

    def _head_if_marked(self) -> Mapping[str, str] | None:
        with suppress(NotFound, Forbidden):
            head = self.head()
            return head if self._is_marked(head) else None
        return None

    def _is_marked(self, head: Mapping[str, str]) -> bool:
        return bool(self._options.transfer_id) and metadata_of(head).get(HAULAGE_ID) == self._options.transfer_id

    # ending

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        ordered = in_order(receipts, None)
        if upload == SINGLE:
            return self._verified(ordered, {"ETag": f'"{etag_of(ordered[0])}"'})
        try:
            told = self._commit(upload, ordered)
        except (UploadNotFound, DestinationExists) as refused:
            with suppress(NotFound, Forbidden):
                head = self.head()
                if self._is_made_of(head, ordered):
                    return self._proven(head, ordered)
            raise refused
        return self._verified(ordered, told)

    def _commit(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> Mapping[str, str]:
        """The explicit list: whatever else was sent to this upload is dropped."""
        parts = [models.PartInfo(each.number, etag_of(each)) for each in receipts]
        with oss_errors(f"complete {self.shown}"):
            told: Mapping[str, str] = self.patient_bucket.complete_multipart_upload(
                self.key, upload, parts, headers=_KEPT if self._keeps_existing else {}
            ).headers
        return told

    def _verified(self, receipts: Sequence[PartReceipt], told: Mapping[str, str]) -> ObjectStat:
        ours, theirs = joined_crc(receipts), crc_from_wire(told.get(CRC_HEADER))
        if ours is not None and theirs is not None and ours != theirs:
            raise ChecksumMismatch(f"{self.shown} has crc64ecma {theirs:016x}, not {ours:016x}")
        etag = told.get("ETag", "")
        try:
            head = self.head()
        except NotFound as exc:
            raise UploadNotFound(f"complete {self.shown}: nothing is there any more", status=exc.status) from exc
        except Forbidden:  # a credential that may only write: what the store answered has to do
            size = sum(each.size_bytes for each in receipts)
            return ObjectStat(size, Validator("etag", etag) if etag else Validator("none"), etag=etag or None)
        if not self._is_made_of(head, receipts, etag):
            raise ChecksumMismatch(f"{self.shown} does not hold what was sent")
        return self._proven(head, receipts)

    def _proven(self, head: Mapping[str, str], receipts: Sequence[PartReceipt]) -> ObjectStat:
        both = joined_crc(receipts) is not None and crc_from_wire(head.get(CRC_HEADER)) is not None
        return replace(stat_of(head, self.key), compared="crc64ecma" if both else None)

    def _is_made_of(self, head: Mapping[str, str], receipts: Sequence[PartReceipt], etag: str = "") -> bool:
        """Whether the object is what ``receipts`` prove. A checksum decides; size alone is no proof."""
        if _size_of(head) != sum(each.size_bytes for each in receipts):
            return False
        ours, theirs = joined_crc(receipts), crc_from_wire(head.get(CRC_HEADER))
        if ours is not None and theirs is not None:
            return ours == theirs
        return (bool(etag) and head.get("ETag") == etag) or self._is_marked(head)

    def abort_upload(self, upload: UploadId) -> None:
        if upload == SINGLE:
            return
        with suppress(UploadNotFound, NotFound), oss_errors(f"abort upload of {self.shown}"):
            self.bucket.abort_multipart_upload(self.key, upload)

    # skills

    def list_parts(self, upload: UploadId) -> Sequence[PartReceipt]:
        if upload == SINGLE:
            head = self._head_if_marked()
            return [] if head is None else [_told(1, _size_of(head), head, f"HEAD {self.shown}")]
        return list(self._listed(upload))

    def _listed(self, upload: UploadId, after: int = 0, page: int = 0) -> Iterator[PartReceipt]:
        """Parts with numbers above ``after``, all pages of them."""
        marker = str(after)
        while True:
            with oss_errors(f"list parts of {self.shown}"):
                found = self.bucket.list_parts(self.key, upload, marker=marker, max_parts=page or self._page)
            crcs = _listed_crcs(found.resp.body)
            for each in found.parts:
                yield receipt_of(each.part_number, each.size, each.etag, crcs.get(each.part_number))
            if not found.is_truncated:
                return
            if found.next_marker == marker:
                raise ResponseParseError(f"list parts of {self.shown}: a page leads to itself")
            marker = found.next_marker

    def list_uploads(self) -> Sequence[tuple[UploadId, float]]:
        """Sorted by key, so the first key that is longer ends the search."""
        own = takewhile(lambda each: each[0] == self.key, self._sessions(self.key))
        return [(upload, created) for _, upload, created in own]

    def list_sessions(self, prefix: str) -> Sequence[tuple[str, UploadId, float]]:
        return list(self._sessions(prefix))

    def _sessions(self, prefix: str) -> Iterator[tuple[str, UploadId, float]]:
        markers: tuple[str, str] = ("", "")
        while True:
            with oss_errors(f"list uploads of oss://{self.bucket_name}/{prefix}"):
                found = self.bucket.list_multipart_uploads(
                    prefix=prefix, key_marker=markers[0], upload_id_marker=markers[1], max_uploads=self._page
                )
            for each in found.upload_list:
                yield each.key, UploadId(each.upload_id), float(each.initiation_date)
            following = (found.next_key_marker, found.next_upload_id_marker)
            if not found.is_truncated:
                return
            if following == markers:
                raise ResponseParseError(f"list uploads of oss://{self.bucket_name}/{prefix}: a page leads to itself")
            markers = following

    def can_copy_from(self, source: Source) -> bool:
        """The accelerated endpoint reaches buckets of every region, and the service copies inside one."""
        if not isinstance(source, OssSource) or source.account.identity != self.account.identity:
            return False
        return source.bucket_name == self.bucket_name or not self.account.spans_regions

    def copy_part(self, upload: UploadId, part: Part, source: Source, *, validator: Validator) -> PartReceipt:
        """Server-side copy of ``part.span`` of ``source``. Raises SourceChanged."""
        if not isinstance(source, OssSource):
            raise TypeError(f"can_copy_from() was not asked: {source!r}")
        if upload == SINGLE:
            return self._copy_whole(part, source, validator)
        what = f"copy part {part.number} of {self.shown}"
        with oss_errors(what):
            self.patient_bucket.upload_part_copy(
                source.bucket_name,
                source.key,
                (part.span.start, part.span.stop - 1),
                self.key,
                upload,
                part.number,
                headers=source.copy_headers(validator),
            )
        # The answer names no checksum, and a range that made no sense would have copied the whole object.
        receipt = next(self._listed(upload, after=part.number - 1, page=1), None)
        if receipt is None or receipt.number != part.number:
            raise ServerFault(f"{what}: the store does not list it")
        if receipt.size_bytes != part.size_bytes:
            raise SourceChanged(f"{what}: {receipt.size_bytes} bytes were copied, not {part.size_bytes}")
        return receipt

    def _copy_whole(self, part: Part, source: OssSource, validator: Validator) -> PartReceipt:
        headers = {
            **self._description(),
            **source.copy_headers(validator),
            "x-oss-metadata-directive": "REPLACE",
            **(_KEPT if self._keeps_existing else {}),
        }
        what = f"copy {self.shown}"
        try:
            with oss_errors(what):
                self.patient_bucket.copy_object(source.bucket_name, source.key, self.key, headers=headers)
        except DestinationExists:
            if self._head_of_ours(part.size_bytes) is None:
                raise
        head = self.head()
        if _size_of(head) != part.size_bytes:
            raise SourceChanged(f"{what}: {_size_of(head)} bytes were copied, not {part.size_bytes}")
        return _told(part.number, part.size_bytes, head, what)

    def as_source(self) -> OssSource:
        return OssSource(self.account, self.bucket_name, self.key)

    def remove(self) -> None:
        with suppress(NotFound), oss_errors(f"remove {self.shown}"):
            self.bucket.delete_object(self.key)


def _receipt(part: Part, headers: Mapping[str, str], crc: int, what: str) -> PartReceipt:
    """From what the store says it stored, compared with the checksum of what passed."""
    receipt = _told(part.number, part.size_bytes, headers, what)
    if crc_of(receipt) not in (None, crc):
        raise PartCorrupted(f"{what}: the store has crc64ecma {crc_of(receipt):016x}, not {crc:016x}")
    return receipt


def _told(number: int, size_bytes: int, headers: Mapping[str, str], what: str) -> PartReceipt:
    etag = headers.get("ETag")
    if not etag:
        raise ResponseParseError(f"{what}: no ETag in the reply")
    return receipt_of(number, size_bytes, etag, crc_from_wire(headers.get(CRC_HEADER)))


def _size_of(head: Mapping[str, str]) -> int:
    return int(head["Content-Length"])


def _listed_crcs(xml: bytes) -> dict[int, int]:
    """Part number -> CRC. The SDK reads all of a listed part but this."""
    found = {}
    for row in _LISTED.findall(xml):
        number, crc = (_FIELDS[name].search(row) for name in (b"PartNumber", b"HashCrc64ecma"))
        value = crc_from_wire(crc[1].decode()) if crc else None
        if number and value is not None:
            found[int(number[1])] = value
    return found
