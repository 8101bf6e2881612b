"""S3 and every store that speaks its API: multipart upload, single PUT, ranges, server-side copy.

boto3 makes the small calls; bytes go through ``transport.py`` with SigV4 over the head. Always SigV4, any endpoint.
Profile values: endpoint, region, access_key, secret_key, session_token, addressing (auto, path, virtual), ca_file,
proxy, ipv6, aws_profile; with none of them boto3's own chain is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

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
    ProviderError,
    ResponseParseError,
    ResponseStatusError,
    ServerFault,
    SourceChanged,
    UploadNotFound,
)
from providers.receipts import in_order
from providers.s3_account import S3Account, account_for
from providers.s3_errors import reply_error, s3_errors
from providers.s3_proof import crc_from_wire, crc_to_wire, joined_crc64nvme, joined_etag, stat_of
from providers.s3_source import S3Object, S3Source, quoted
from providers.schemes import S3_LIMITS, Location

SINGLE = UploadId("single")
"""Stands for an upload in one PutObject: nothing is open at the store until the object is there."""
HAULAGE_ID = "haulage-id"
_CHECKSUM = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
_PAGE = 1000


def source(location: Location, profile: Profile, options: Options, services: Services) -> S3Source:
    """No request is made yet. Raises ProviderUnavailable, InvalidValue."""
    return S3Source(account_for(profile, options, services), location.bucket, location.key)


def destination(location: Location, profile: Profile, options: Options, services: Services) -> S3Destination:
    """No request is made yet. Raises ProviderUnavailable, InvalidValue."""
    return S3Destination(account_for(profile, options, services), location.bucket, location.key, options)


class S3Destination(S3Object, Destination, ListsParts, ListsUploads, ListsSessions, CopiesRange, ReadsBack):
    """Writes one object, in parts or, if it is one part, by a single PUT.

    ``on_exists`` is checked again at the commit: with ``fail`` and ``skip`` the store itself refuses to replace.
    """

    limits = S3_LIMITS

    def __init__(self, account: S3Account, bucket: str, key: str, options: Options, *, page: int = _PAGE) -> None:
        super().__init__(account, bucket, key)
        self._options = options
        self._page = page
        self._keeps_existing = options.on_exists in ("fail", "skip")
        self._metadata = {HAULAGE_ID: options.transfer_id} if options.transfer_id else {}

    def existing(self) -> ObjectStat | None:
        """None too where the credential may not read: S3 answers 403 to such a HEAD, also when nothing is there."""
        with suppress(NotFound, Forbidden):
            return stat_of(self.head(), self.where["Key"])
        return None

    # writing

    def create_upload(self, plan: UploadPlan) -> UploadId:
        if plan.part_count == 1 and plan.size_bytes is not None:
            return SINGLE
        if not self.account.takes_checksums:
            return self._create()
        try:
            return self._create(**_CHECKSUM)
        except ResponseStatusError as exc:
            if not _unsupported(exc):
                raise
        upload = self._create()
        self.account.takes_checksums = False
        return upload

    def _create(self, **checksum: str) -> UploadId:
        with s3_errors(f"create upload of {self.shown}"):
            reply = self.account.client.create_multipart_upload(**self.where, **self._description(), **checksum)
        if not reply.get("UploadId"):
            raise ResponseParseError(f"create upload of {self.shown}: no UploadId in the reply")
        return UploadId(reply["UploadId"])

    def _description(self) -> dict[str, Any]:
        content_type = {"ContentType": self._options.content_type} if self._options.content_type else {}
        return {"Metadata": self._metadata, **content_type}

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """Where the store names the CRC-64/NVME of what it stored, the receipt holds it."""
        if upload == SINGLE:
            return self._put_whole(part, body)
        what = f"put part {part.number} of {self.shown}"
        url, sign = self.place
        query = f"?partNumber={part.number}&uploadId={quoted(upload)}"
        reply = self.account.transport.put(url + query, body, size_bytes=part.size_bytes, sign=sign)
        if not reply.ok:
            raise reply_error(reply.status, reply.headers, reply.body, what=what)
        return _receipt(part, reply.headers, what)

    def _put_whole(self, part: Part, body: Body) -> PartReceipt:
        what = f"put {self.shown}"
        headers = {f"x-amz-meta-{name}": value for name, value in self._metadata.items()}
        if self._options.content_type:
            headers["Content-Type"] = self._options.content_type
        conditional = self._keeps_existing and self.account.takes_conditions
        if conditional:
            headers["If-None-Match"] = "*"
        elif self._keeps_existing and self.existing() is not None:
            return self._put_before(part, body, DestinationExists(f"{what}: an object is there"))
        url, sign = self.place
        reply = self.account.transport.put(url, body, headers=headers, size_bytes=part.size_bytes, sign=sign)
        if reply.ok:
            return _receipt(part, reply.headers, what)
        error = reply_error(reply.status, reply.headers, reply.body, what=what, precondition=DestinationExists)
        if isinstance(error, DestinationExists):
            return self._put_before(part, body, error)
        if conditional and reply.status == 501:
            self.account.takes_conditions = False
            raise ServerFault(f"{what}: the store knows no conditions; to be tried without", status=501)
        raise error

    def _put_before(self, part: Part, body: Body, refused: DestinationExists) -> PartReceipt:
        """After a lost reply the object that is in the way is our own."""
        head = self._head_of_ours(part.size_bytes)
        if head is None:
            raise refused
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while body.readinto(buffer):  # whoever sums the bytes up above gets to see all of them
            pass
        return PartReceipt(part.number, part.size_bytes, head["ETag"], crc_from_wire(head.get("ChecksumCRC64NVME")))

    def _head_of_ours(self, size_bytes: int) -> Mapping[str, Any] | None:
        with suppress(NotFound, Forbidden):
            head = self.head()
            return head if head["ContentLength"] == size_bytes and self._is_marked(head) else None
        return None

    def _is_marked(self, head: Mapping[str, Any]) -> bool:
        found = {name.lower(): value for name, value in head.get("Metadata", {}).items()}
        return bool(self._options.transfer_id) and found.get(HAULAGE_ID) == self._options.transfer_id

    # ending

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        ordered = in_order(receipts, None)
        if upload == SINGLE:
            return self._verified(ordered, ordered[0].etag)
        try:
            etag = self._complete(upload, ordered)
        except (UploadNotFound, DestinationExists) as refused:
            with suppress(NotFound, Forbidden):
                head = self.head()
                if self._is_made_of(head, ordered):
                    return stat_of(head, self.where["Key"])
            raise refused
        return self._verified(ordered, etag)

    def _complete(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> str:
        crc = joined_crc64nvme(receipts)
        if crc is None or not self.account.takes_checksums:
            return self._commit(upload, receipts)
        try:
            return self._commit(upload, receipts, ChecksumCRC64NVME=crc_to_wire(crc), ChecksumType="FULL_OBJECT")
        except ResponseStatusError as exc:
            if not _unsupported(exc):
                raise
        return self._commit(upload, receipts)  # the upload was created without: the checksum is compared afterwards

    def _commit(self, upload: UploadId, receipts: Sequence[PartReceipt], **extra: str) -> str:
        if self._keeps_existing:
            extra["IfNoneMatch"] = "*"
        parts = [{"PartNumber": each.number, "ETag": each.etag} for each in receipts]
        with s3_errors(f"complete {self.shown}", precondition=DestinationExists):
            reply = self.account.patient_client.complete_multipart_upload(
                **self.where, UploadId=upload, MultipartUpload={"Parts": parts}, **extra
            )
        return str(reply.get("ETag", ""))

    def _verified(self, receipts: Sequence[PartReceipt], etag: str) -> ObjectStat:
        try:
            head = self.head()
        except NotFound as exc:
            raise UploadNotFound(f"complete {self.shown}: nothing is there any more", status=exc.status) from exc
        except Forbidden:  # a credential that may only write: what the store answered has to do
            size = sum(each.size_bytes for each in receipts)
            return ObjectStat(size, Validator("etag", etag) if etag else Validator("none"), etag=etag or None)
        if not self._is_made_of(head, receipts, etag):
            raise ChecksumMismatch(f"{self.shown} does not hold what was sent")
        return stat_of(head, self.where["Key"])

    def _is_made_of(self, head: Mapping[str, Any], receipts: Sequence[PartReceipt], etag: str = "") -> bool:
        """Whether the object is what ``receipts`` prove. A checksum decides; size alone is no proof."""
        if head["ContentLength"] != sum(each.size_bytes for each in receipts):
            return False
        ours, theirs = joined_crc64nvme(receipts), crc_from_wire(head.get("ChecksumCRC64NVME"))
        if ours is not None and theirs is not None:
            return ours == theirs
        found = str(head.get("ETag", "")).strip('"')
        if found and found in (etag.strip('"'), joined_etag(receipts)):
            return True
        return self._is_marked(head)

    def abort_upload(self, upload: UploadId) -> None:
        if upload == SINGLE:
            return
        with suppress(UploadNotFound, NotFound), s3_errors(f"abort upload of {self.shown}"):
            self.account.client.abort_multipart_upload(**self.where, UploadId=upload)

    # skills

    def list_parts(self, upload: UploadId) -> Sequence[PartReceipt]:
        if upload == SINGLE:
            head = self._head_if_marked()
            return [] if head is None else [_listed(1, head["ContentLength"], head)]
        pages = self._pages("list_parts", UploadId=upload, MaxParts=self._page, **self.where)
        return [_listed(each["PartNumber"], each["Size"], each) for page in pages for each in page.get("Parts", [])]

    def _head_if_marked(self) -> Mapping[str, Any] | None:
        with suppress(NotFound, Forbidden):
            head = self.head()
            return head if self._is_marked(head) else None
        return None

    def list_uploads(self) -> Sequence[tuple[UploadId, float]]:
        own = self.where["Key"]
        return [(upload, created) for key, upload, created in self.list_sessions(own) if key == own]

    def list_sessions(self, prefix: str) -> Sequence[tuple[str, UploadId, float]]:
        where = {"Bucket": self.where["Bucket"], "Prefix": prefix}
        pages = self._pages("list_multipart_uploads", MaxUploads=self._page, **where)
        found = (each for page in pages for each in page.get("Uploads", []))
        return [(each["Key"], UploadId(each["UploadId"]), each["Initiated"].timestamp()) for each in found]

    def _pages(self, operation: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        with s3_errors(f"{operation} of {self.shown}"):
            yield from self.account.client.get_paginator(operation).paginate(**params)

    def can_copy_from(self, source: Source) -> bool:
        return isinstance(source, S3Source) and source.account.identity == self.account.identity

    def copy_part(self, upload: UploadId, part: Part, source: Source, *, validator: Validator) -> PartReceipt:
        """Server-side copy of ``part.span`` of ``source``. Raises SourceChanged."""
        if not isinstance(source, S3Source):
            raise TypeError(f"can_copy_from() was not asked: {source!r}")
        if upload == SINGLE:
            return self._copy_whole(part, source, validator)
        with s3_errors(f"copy part {part.number} of {self.shown}"):
            reply = self.account.patient_client.upload_part_copy(
                **self.where,
                **source.as_copy_source(validator),
                CopySourceRange=part.span.header,
                UploadId=upload,
                PartNumber=part.number,
            )
        return _listed(part.number, part.size_bytes, reply.get("CopyPartResult", {}))

    def _copy_whole(self, part: Part, source: S3Source, validator: Validator) -> PartReceipt:
        condition = {"IfNoneMatch": "*"} if self._keeps_existing else {}
        try:
            with s3_errors(f"copy {self.shown}"):
                reply = self.account.patient_client.copy_object(
                    **self.where,
                    **self._description(),
                    **source.as_copy_source(validator),
                    **condition,
                    MetadataDirective="REPLACE",
                )
        except SourceChanged:  # a 412: either condition
            head = self._head_of_ours(part.size_bytes)
            if head is not None:
                return _listed(part.number, part.size_bytes, head)
            if condition and self.existing() is not None:
                raise DestinationExists(f"copy {self.shown}: an object is there", status=412) from None
            raise
        return _listed(part.number, part.size_bytes, reply.get("CopyObjectResult", {}))

    def as_source(self) -> S3Source:
        return S3Source(self.account, self.where["Bucket"], self.where["Key"])

    def remove(self) -> None:
        with suppress(NotFound), s3_errors(f"remove {self.shown}"):
            self.account.client.delete_object(**self.where)


def _unsupported(error: ProviderError) -> bool:
    """A refusal that may be about a parameter this store does not know."""
    return type(error) is ResponseStatusError and error.status in (400, 501)


def _receipt(part: Part, headers: Mapping[str, str], what: str) -> PartReceipt:
    etag = headers.get("ETag")
    if not etag:
        raise ResponseParseError(f"{what}: no ETag in the reply")
    return PartReceipt(part.number, part.size_bytes, etag, crc_from_wire(headers.get("x-amz-checksum-crc64nvme")))


def _listed(number: int, size_bytes: int, entry: Mapping[str, Any]) -> PartReceipt:
    if not entry.get("ETag"):
        raise ResponseParseError(f"part {number}: no ETag in the reply")
    return PartReceipt(number, size_bytes, entry["ETag"], crc_from_wire(entry.get("ChecksumCRC64NVME")))
