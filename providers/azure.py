"""Azure Blob Storage: block blobs in blocks or by a single PUT, ranges, server-side copy within an account.

The SDK signs; every request and all bytes go through ``transport.py``. Profile values: account and key, or sas_token,
or connection_string; endpoint, api_version, access_tier, ca_file, proxy, ipv6.

A multipart upload is no thing of its own here: blocks wait uncommitted at the blob, whoever sent them, until somebody
commits a list of ids or a week has passed. So an upload is a name of ours inside its block ids (``azure_blocks.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal
from urllib.parse import quote

from providers.azure_account import AzureAccount, account_for
from providers.azure_blocks import BlockLists, block_id, block_list_xml, ended_id, index_of, new_upload
from providers.azure_source import AzureBlob, AzureSource, crc64nvme_of, metadata_of
from providers.base import (
    BUFFER_BYTES,
    Body,
    CopiesRange,
    Destination,
    ListsParts,
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
    InvalidPart,
    InvalidValue,
    NotFound,
    ObjectTooLarge,
    ResponseParseError,
    UploadNotFound,
)
from providers.receipts import in_order
from providers.reply import Reply
from providers.schemes import AZURE_LIMITS, Location

SINGLE = UploadId("single")
"""Stands for an upload in one Put Blob: nothing waits at the store until the blob is there."""
HAULAGE_ID = "haulage_id"
"""Names of metadata have to be identifiers of C#: no hyphen."""
_BYTES = {"Content-Type": "application/octet-stream"}


def source(location: Location, profile: Profile, options: Options, services: Services) -> AzureSource:
    """No request is made yet. Raises ProviderUnavailable, InvalidValue."""
    return AzureSource(account_for(profile, options, services), location.bucket, _blob(location, "source"))


def destination(location: Location, profile: Profile, options: Options, services: Services) -> AzureDestination:
    """No request is made yet. Raises ProviderUnavailable, InvalidValue."""
    blob = _blob(location, "destination")
    return AzureDestination(account_for(profile, options, services), location.bucket, blob, options)


def _blob(location: Location, role: str) -> str:
    """The service folds ``/../`` in a URL, so such a name would reach another blob, or another container."""
    if {".", ".."} & {*location.key.split("/"), location.bucket}:
        raise InvalidValue(role, location.shown, "a blob name without the segments '.' and '..'")
    return location.key


class AzureDestination(AzureBlob, Destination, ListsParts, CopiesRange, ReadsBack):
    """Writes one block blob, in blocks or, if it is one part, by a single PUT.

    ``on_exists`` is checked again at the commit: with ``fail`` and ``skip`` the store itself refuses to replace.
    """

    limits = AZURE_LIMITS

    def __init__(self, account: AzureAccount, container: str, blob: str, options: Options) -> None:
        super().__init__(account, container, blob)
        self._options = options
        self._keeps_existing = options.on_exists in ("fail", "skip")

    def existing(self) -> ObjectStat | None:
        """None too where the credential may not read, and while only uncommitted blocks are there."""
        with suppress(NotFound, Forbidden):
            return self.stat_of(self.head())
        return None

    # writing

    def create_upload(self, plan: UploadPlan) -> UploadId:
        """Opens nothing: it looks which length the block ids must have, and that the container is there."""
        if plan.part_count == 1 and plan.size_bytes is not None:
            return SINGLE
        if plan.part_count > self.limits.max_parts:
            raise ObjectTooLarge("parts", plan.part_count, f"at most {self.limits.max_parts} blocks")
        lists = self._lists_if_allowed("uncommitted")
        return new_upload(lists.uncommitted if lists else {})

    def _lists_if_allowed(self, kind: Literal["all", "uncommitted"]) -> BlockLists | None:
        with suppress(Forbidden):  # a SAS that may only write
            return self.block_lists(kind)
        return None

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        """The receipt holds the CRC-64/NVME the store computed. A block has no ETag: its id names the upload."""
        self._check_part(part)
        if upload == SINGLE:
            return self._put_whole(part, body)
        if not part.size_bytes:  # of a stream that turned out to be empty: there are no empty blocks
            return PartReceipt(part.number, 0)
        what = f"put part {part.number} of {self.shown}"
        reply = self.account.transport.put(
            self._block_url(upload, part), body, headers=_BYTES, size_bytes=part.size_bytes, sign=self.account.sign
        )
        if not reply.ok:
            raise self.account.error(reply, what=what)
        return PartReceipt(part.number, part.size_bytes, "", crc64nvme_of(reply.headers))

    def _check_part(self, part: Part) -> None:
        if part.size_bytes > self.limits.max_part_bytes:
            raise ObjectTooLarge("part size", part.size_bytes, f"at most {self.limits.max_part_bytes} bytes")
        if part.number > self.limits.max_parts:
            raise ObjectTooLarge("part number", part.number, f"at most {self.limits.max_parts}")

    def _block_url(self, upload: UploadId, part: Part) -> str:
        return f"{self.url}?comp=block&blockid={quote(block_id(part.number - 1, upload), safe='')}"

    def _description(self) -> dict[str, str]:
        """Headers that make the blob ours, of its type, in its tier, and keep what is there if so wished."""
        headers = {
            f"x-ms-meta-{HAULAGE_ID}": self._options.transfer_id,
            "x-ms-blob-content-type": self._options.content_type or "",
            "x-ms-access-tier": self.account.access_tier,
            "If-None-Match": "*" if self._keeps_existing else "",
        }
        return {name: value for name, value in headers.items() if value}

    def _put_whole(self, part: Part, body: Body) -> PartReceipt:
        what = f"put {self.shown}"
        headers = {**_BYTES, "x-ms-blob-type": "BlockBlob", **self._description()}
        reply = self.account.transport.put(
            self.url, body, headers=headers, size_bytes=part.size_bytes, sign=self.account.sign
        )
        if reply.ok:
            return _whole_receipt(part, reply, what)
        error = self.account.error(reply, what=what, precondition=DestinationExists)
        if not isinstance(error, DestinationExists):
            raise error
        ours = self._head_of_ours(part.size_bytes)
        if ours is None:
            raise error
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while body.readinto(buffer):  # after a lost reply; whoever sums the bytes up above gets to see all of them
            pass
        return _whole_receipt(part, ours, what)

    def _head_of_ours(self, size_bytes: int | None = None) -> Reply | None:
        with suppress(NotFound, Forbidden):
            head = self.head()
            if self._is_marked(head) and size_bytes in (None, self.stat_of(head).size_bytes):
                return head
        return None

    def _is_marked(self, head: Reply) -> bool:
        wanted = self._options.transfer_id
        return bool(wanted) and metadata_of(head.headers).get(HAULAGE_ID) == wanted

    # ending

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        ordered = in_order(receipts, None)
        if upload == SINGLE:
            return self._verified(ordered, ordered[0].etag, {})
        wanted = {block_id(each.number - 1, upload): each.size_bytes for each in ordered if each.size_bytes}
        lists = self._lists_if_allowed("all") if wanted else None
        if lists is not None:
            if _is_made_of(lists, wanted):  # a commit whose reply was lost
                return self._verified(ordered, "", wanted)
            self._check_waiting(lists, upload, wanted)
        try:
            etag = self._commit(list(wanted))
        except (DestinationExists, InvalidPart):
            with suppress(NotFound, Forbidden):
                head = self.head()
                if self._is_ours(head, wanted):
                    return self.stat_of(head)
            raise
        return self._verified(ordered, etag, wanted)

    def _check_waiting(self, lists: BlockLists, upload: UploadId, wanted: Mapping[str, int]) -> None:
        """What is to be committed is all there, in its size. Sizes are all that the store tells of a block."""
        waiting = lists.uncommitted
        ours = [name for name in waiting if name in wanted]
        if ended_id(upload) in waiting or not ours:
            if self._keeps_existing and self.existing() is not None:  # whoever wrote it dropped what waited
                raise DestinationExists(f"complete {self.shown}: an object is there")
            raise UploadNotFound(f"complete {self.shown}: the upload was ended, or its blocks are gone")
        wrong = sum(waiting.get(name) != size for name, size in wanted.items())
        if wrong:
            raise InvalidPart(f"complete {self.shown}: {wrong} of {len(wanted)} blocks are missing or of another size")

    def _commit(self, ids: Sequence[str]) -> str:
        reply = self.account.call(
            "PUT",
            f"{self.url}?comp=blocklist",
            what=f"complete {self.shown}",
            headers={"Content-Type": "application/xml", **self._description()},
            data=block_list_xml(ids),
            patient=True,
            precondition=DestinationExists,
        )
        return reply.headers.get("ETag", "")

    def _verified(self, receipts: Sequence[PartReceipt], etag: str, wanted: Mapping[str, int]) -> ObjectStat:
        """``etag`` is what the commit answered; without it the blocks or the metadata have to tell."""
        size = sum(each.size_bytes for each in receipts)
        try:
            head = self.head()
        except NotFound as exc:
            raise UploadNotFound(f"complete {self.shown}: nothing is there any more", status=exc.status) from exc
        except Forbidden:  # a SAS that may only write: what the store answered has to do
            return ObjectStat(size, Validator("etag", etag) if etag else Validator("none"), etag=etag or None)
        stat = self.stat_of(head)
        proven = (bool(etag) and stat.etag == etag) or self._is_ours(head, wanted)
        if stat.size_bytes != size or not proven:
            raise ChecksumMismatch(f"{self.shown} does not hold what was sent")
        return stat

    def _is_ours(self, head: Reply, wanted: Mapping[str, int]) -> bool:
        """Size alone is no proof. The blocks it is made of are, since their ids name the upload."""
        if not wanted:
            return self._is_marked(head)
        lists = self._lists_if_allowed("all")
        return lists is not None and _is_made_of(lists, wanted)

    def abort_upload(self, upload: UploadId) -> None:
        """Blocks cannot be dropped without a commit or a delete, which could meet somebody's blob: they expire.

        A block that marks the end keeps a late ``complete_upload`` from making them an object after all.
        """
        if upload == SINGLE:
            return
        with suppress(NotFound):
            lists = self._lists_if_allowed("uncommitted")
            if lists is None or not any(index_of(name, upload) is not None for name in lists.uncommitted):
                return
            url = f"{self.url}?comp=block&blockid={quote(ended_id(upload), safe='')}"
            self.account.call("PUT", url, what=f"abort upload of {self.shown}", headers=_BYTES, data=b"-")

    # skills

    def list_parts(self, upload: UploadId) -> Sequence[PartReceipt]:
        """Blocks of this upload only, by number. None at all is an upload that has only begun."""
        if upload == SINGLE:
            head = self._head_of_ours()
            return [] if head is None else [_listed(head, self.stat_of(head))]
        waiting = self.block_lists().uncommitted
        if ended_id(upload) in waiting:
            raise UploadNotFound(f"list parts of {self.shown}: the upload was ended")
        numbered = {index_of(name, upload): size for name, size in waiting.items()}
        return [PartReceipt(n + 1, size) for n, size in sorted((n, s) for n, s in numbered.items() if n is not None)]

    def can_copy_from(self, source: Source) -> bool:
        return isinstance(source, AzureSource) and source.account.endpoint == self.account.endpoint

    def copy_part(self, upload: UploadId, part: Part, source: Source, *, validator: Validator) -> PartReceipt:
        """Server-side copy of ``part.span`` of ``source``. Raises SourceChanged."""
        if not isinstance(source, AzureSource):
            raise TypeError(f"can_copy_from() was not asked: {source!r}")
        self._check_part(part)
        if upload == SINGLE:
            raise TypeError("a single part is sent, not copied by the store")
        reply = self.account.call(
            "PUT",
            self._block_url(upload, part),
            what=f"copy part {part.number} of {self.shown}",
            headers=source.as_copy_source(part.span, validator),
            data=b"",
            patient=True,
        )
        return PartReceipt(part.number, part.size_bytes, "", crc64nvme_of(reply.headers))

    def as_source(self) -> AzureSource:
        return AzureSource(self.account, self.container, self.blob)

    def remove(self) -> None:
        with suppress(NotFound):
            self.account.call("DELETE", self.url, what=f"remove {self.shown}")


def _is_made_of(lists: BlockLists, wanted: Mapping[str, int]) -> bool:
    return list(lists.committed.items()) == list(wanted.items())


def _whole_receipt(part: Part, reply: Reply, what: str) -> PartReceipt:
    etag = reply.headers.get("ETag")
    if not etag:
        raise ResponseParseError(f"{what}: no ETag in the reply")
    return PartReceipt(part.number, part.size_bytes, etag, crc64nvme_of(reply.headers))


def _listed(head: Reply, stat: ObjectStat) -> PartReceipt:
    return PartReceipt(1, stat.size_bytes or 0, stat.etag or "", crc64nvme_of(head.headers))
