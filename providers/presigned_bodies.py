"""What a completion says: the parts as the application, S3, OSS or Azure wants them listed; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from providers.azure_blocks import block_list_xml
from providers.base import PartReceipt
from providers.errors import ResponseParseError
from providers.plans import PresignedUpload, SignedRequest

StoreIds = Sequence[tuple[int, str | None]]
"""(number, id) at the store, in the order of the object."""


def completion_body(
    plan: PresignedUpload, request: SignedRequest, receipts: Sequence[PartReceipt], ids: StoreIds
) -> bytes:
    """A fixed body goes first; parts are listed by number. Raises ResponseParseError where the list lacks a proof."""
    if request.body is not None:
        return request.body.encode()
    rows = sorted(zip(ids, receipts, strict=True), key=lambda row: row[1].number)
    match plan.complete_body_builder:
        case "json":
            return _json(plan, rows)
        case "s3" | "oss":
            return _complete_multipart(rows)
        case "azure":
            return block_list_xml([_needed(name, "provider_part_id", row) for (_, name), row in rows])
        case _:
            return b""


def error_in(body: bytes) -> str:
    """S3 and OSS may answer 200 and then fail: the code of the error in such a body, or nothing."""
    text = body[: 64 << 10].decode("utf-8", errors="replace")
    if not re.search(r"<Error[\s>]", text):
        return ""
    found = re.search(r"<Code>([A-Za-z0-9.]{1,100})</Code>", text)
    return found.group(1) if found else "Unknown"


def etag_in(body: bytes) -> str:
    """The object's ETag in a reply of S3 or OSS."""
    found = re.search(r"<ETag>(?:&quot;|&#34;|\")?([^<&\"]{1,200})", body[: 64 << 10].decode("utf-8", errors="replace"))
    return f'"{found.group(1)}"' if found else ""


def _json(plan: PresignedUpload, rows: Sequence[tuple[tuple[int, str | None], PartReceipt]]) -> bytes:
    """RC-97."""
    parts = [
        {
            "part_number": number,
            "provider_part_id": name,
            "offset": plan.span(receipt.number - 1)[0],
            "size": receipt.size_bytes,
            "etag": receipt.etag or None,
        }
        for (number, name), receipt in rows
    ]
    about = {"upload_id": plan.upload_id, "total_size": plan.total_size, "chunk_size": plan.chunk_size}
    return json.dumps({**about, "parts": parts}).encode()


def _complete_multipart(rows: Sequence[tuple[tuple[int, str | None], PartReceipt]]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(_needed(row.etag, 'ETag', row))}</ETag></Part>"
        for (number, _), row in rows
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def _needed(value: str | None, name: str, receipt: PartReceipt) -> str:
    if not value:
        raise ResponseParseError(f"part {receipt.number} has no {name}, which the completion has to list")
    return value
