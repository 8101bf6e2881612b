"""What ties an S3 object to the parts it was made of: checksums and ETags, joined without reading them again."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from awscrt.checksums import combine_crc64nvme

from providers.base import ObjectStat, PartReceipt, Validator

_MD5 = re.compile(r"[0-9a-f]{32}")


def stat_of(head: Mapping[str, Any], key: str) -> ObjectStat:
    """From a HeadObject reply. A bucket without versioning names no version, or the version "null"."""
    etag, version = head.get("ETag"), head.get("VersionId")
    if version and version != "null":
        validator = Validator("version", version)
    else:
        validator = Validator("etag", etag) if etag and not etag.startswith("W/") else Validator("none")
    name = key.rpartition("/")[2]
    return ObjectStat(
        size_bytes=head["ContentLength"],
        validator=validator,
        name=None if name in ("", ".", "..") else name,
        content_type=head.get("ContentType"),
        etag=etag,
        checksum=_full_object_checksum(head),
        metadata=dict(head.get("Metadata", {})),
    )


def joined_crc64nvme(receipts: Sequence[PartReceipt]) -> int | None:
    """CRC of the whole object from its parts in order; None where one part's is not known."""
    total: int | None = None
    for each in receipts:
        if each.crc64nvme is None:
            return None
        total = each.crc64nvme if total is None else combine_crc64nvme(total, each.crc64nvme, each.size_bytes)
    return total


def joined_etag(receipts: Sequence[PartReceipt]) -> str | None:
    """The ETag S3 gives to a multipart object: MD5 over the parts' MD5s, and their count. None if they are no MD5s."""
    digests = [each.etag.strip('"').lower() for each in receipts]
    if not digests or not all(_MD5.fullmatch(each) for each in digests):
        return None
    whole = hashlib.md5(bytes.fromhex("".join(digests)), usedforsecurity=False).hexdigest()
    return f"{whole}-{len(digests)}"


def crc_to_wire(crc: int) -> str:
    return binascii.b2a_base64(crc.to_bytes(8, "big"), newline=False).decode()


def crc_from_wire(text: str | None) -> int | None:
    """None where the store names none, or one that is no CRC-64 (a composite ends in ``-N``)."""
    try:
        raw = binascii.a2b_base64(text or "", strict_mode=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None


def _full_object_checksum(head: Mapping[str, Any]) -> str | None:
    if head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    crc = crc_from_wire(head.get("ChecksumCRC64NVME"))
    return None if crc is None else f"crc64nvme:{crc:016x}"
