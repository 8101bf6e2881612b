"""One blob of an Azure storage account, and reading it."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Literal

from providers.azure_account import AzureAccount
from providers.azure_blocks import BlockLists, read_block_lists
from providers.base import Body, ByteRange, ObjectStat, Source, Validator
from providers.errors import NotFound, ResponseParseError
from providers.reply import Reply

_LIST_BYTES = 32 << 20
"""More than 50,000 committed and 100,000 uncommitted blocks need."""
_META = "x-ms-meta-"


class AzureBlob:
    """One blob in one container, reached by one account."""

    def __init__(self, account: AzureAccount, container: str, blob: str) -> None:
        self.account = account
        self.container = container
        self.blob = blob
        self.url = account.url(container, blob)
        self.shown = f"azblob://{container}/{blob}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown})"

    def head(self) -> Reply:
        return self.account.call("HEAD", self.url, what=f"HEAD {self.shown}")

    def block_lists(self, kind: Literal["all", "uncommitted"] = "uncommitted") -> BlockLists:
        """Of a blob that is not there and has no blocks: empty. Raises NotFound only for the container."""
        what = f"list blocks of {self.shown}"
        try:
            reply = self.account.call(
                "GET", f"{self.url}?comp=blocklist&blocklisttype={kind}", what=what, max_bytes=_LIST_BYTES, patient=True
            )
        except NotFound as exc:
            if "ContainerNotFound" in str(exc):
                raise
            return BlockLists()
        return read_block_lists(reply.body, what=what)

    def stat_of(self, head: Reply) -> ObjectStat:
        headers = head.headers
        etag, size, name = headers.get("ETag"), headers.get("Content-Length", ""), self.blob.rpartition("/")[2]
        if not size.isdigit():
            raise ResponseParseError(f"HEAD {self.shown}: no Content-Length in the reply")
        return ObjectStat(
            size_bytes=int(size),
            validator=Validator("etag", etag) if etag and not etag.startswith("W/") else Validator("none"),
            name=None if name in ("", ".", "..") else name,
            content_type=headers.get("Content-Type"),
            etag=etag,
            metadata=metadata_of(headers),
        )


class AzureSource(AzureBlob, Source):
    """Reads ranges of one blob, pinned by its ETag, which changes with every write."""

    def stat(self) -> ObjectStat:
        return self.stat_of(self.head())

    def read_range(self, span: ByteRange, *, validator: Validator) -> Body:
        return self.account.transport.get_range(
            self.url,
            span,
            validator=validator,
            sign=self.account.sign,
            on_status=lambda reply: self.account.error(reply, what=f"GET {self.shown}"),
            coded=True,
        )

    def as_copy_source(self, span: ByteRange, validator: Validator) -> dict[str, str]:
        """Headers of a server-side copy that is refused once the source is another object. They hold a secret."""
        pinned = {"x-ms-source-if-match": validator.value} if validator.kind == "etag" else {}
        url = self.account.readable_url(self.container, self.blob)
        return {"x-ms-copy-source": url, "x-ms-source-range": span.header, **pinned}


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name.lower(): value for name, value in headers.items()}
    return {name.removeprefix(_META): value for name, value in found.items() if name.startswith(_META)}


def crc64nvme_of(headers: Mapping[str, str]) -> int | None:
    """What the service computed over the bytes it stored: its CRC-64 is CRC-64/NVME, least significant byte first."""
    try:
        raw = binascii.a2b_base64(headers.get("x-ms-content-crc64") or "", strict_mode=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "little") if len(raw) == 8 else None
