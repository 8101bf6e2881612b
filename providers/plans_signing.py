"""For an application's backend, which has credentials: make a presigned plan, and answer when more is to be signed.

plan = plan_presigned_upload(profile, "s3://bucket/key", size, signer={"url": "https://me/sign"}, sign_parts=0)
client.submit("/data/file", plan, destination_profile="signer")      # from anywhere: it holds no credential

def sign(request):                                                  # what answers at https://me/sign
    check_signer_request(key, request.headers, request.body)
    return presign_again(profile, "s3://bucket/key", json.loads(request.body))
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from typing import Any, Protocol

from providers.base import MIB, PartLimits, Profile
from providers.errors import Forbidden, InvalidValue, ObjectTooLarge
from providers.plans import BodyBuilder, PresignedDownload, PresignedUpload, SignedPart, SignedRequest, Signer
from providers.schemes import Location, parse
from providers.signer import SIGNATURE, TIMESTAMP, signature

_MOST_PARTS = 10_000
_REPLAY_SECONDS = 300.0


class Presigner(Protocol):
    """Signs requests to one object of one store."""

    @property
    def limits(self) -> PartLimits: ...
    @property
    def builder(self) -> BodyBuilder: ...
    @property
    def first_part_number(self) -> int: ...
    def open_upload(self) -> str: ...
    def part(self, upload: str, index: int, offset: int, size: int) -> SignedPart: ...
    def completion(self, upload: str) -> SignedRequest: ...
    def abortion(self, upload: str) -> SignedRequest | None: ...
    def head(self) -> SignedRequest: ...
    def reading(self) -> SignedRequest: ...


def plan_presigned_upload(
    profile: Mapping[str, str],
    url: str,
    size_bytes: int,
    *,
    expires_seconds: int = 900,
    part_size: int | None = None,
    signer: Mapping[str, Any] | None = None,
    sign_parts: int | None = None,
    refresh_before_seconds: float = 60.0,
    metadata: Mapping[str, str] | None = None,
) -> PresignedUpload:
    """Open an upload of ``s3://bucket/key`` or ``azblob://container/blob`` and sign its requests.

    ``profile`` has the keys of a profile of that store. With a ``signer`` the first ``sign_parts`` parts are signed
    now, by default 100, and the others just before they are sent; without one all are, and expire together. An empty
    object is stored without a plan. Raises InvalidValue, ObjectTooLarge, and what the store answers.
    """
    if size_bytes < 1:
        raise InvalidValue("size_bytes", size_bytes, "at least 1 byte")
    location, sign = _presigner(profile, url, "destination", expires_seconds)
    chunk = part_size or min(max(size_bytes // 2000, 8 * MIB), 64 * MIB)
    if part_size is None and -(-size_bytes // chunk) > _MOST_PARTS:
        chunk = -(-size_bytes // (_MOST_PARTS * MIB)) * MIB
    count = -(-size_bytes // chunk)
    if count > sign.limits.max_parts or not sign.limits.min_part_bytes <= chunk <= sign.limits.max_part_bytes:
        raise ObjectTooLarge(
            "part_size", chunk, f"parts that {location.scheme.name} takes, {sign.limits.max_parts} at most"
        )
    listed = count if signer is None else min(count, 100 if sign_parts is None else sign_parts)
    upload = sign.open_upload()
    return PresignedUpload(
        total_size=size_bytes,
        chunk_size=chunk,
        parts=tuple(
            sign.part(upload, index, index * chunk, min(chunk, size_bytes - index * chunk)) for index in range(listed)
        ),
        upload_id=upload,
        metadata=dict(metadata or {}),
        complete_request=sign.completion(upload),
        complete_body_builder=sign.builder,
        abort_request=sign.abortion(upload),
        head_request=sign.head(),
        refresh_before_secs=refresh_before_seconds,
        signer=Signer.model_validate(signer) if signer is not None else None,
        first_part_number=sign.first_part_number,
    ).check()


def plan_presigned_download(
    profile: Mapping[str, str],
    url: str,
    *,
    expires_seconds: int = 900,
    total_size: int | None = None,
    signer: Mapping[str, Any] | None = None,
    refresh_before_seconds: float = 60.0,
    metadata: Mapping[str, str] | None = None,
) -> PresignedDownload:
    """Sign the reading of an object; with ``total_size`` nobody asks for it by HEAD."""
    _, sign = _presigner(profile, url, "source", expires_seconds)
    reading = sign.reading()
    head = sign.head() if total_size is None else None
    return PresignedDownload(
        range_url=reading.url,
        head_url=head.url if head else None,
        total_size=total_size,
        range_expires_at_unix_secs=reading.expires_at_unix_secs,
        refresh_before_secs=refresh_before_seconds,
        signer=Signer.model_validate(signer) if signer is not None else None,
        metadata=dict(metadata or {}),
    ).check()


def presign_again(
    profile: Mapping[str, str], url: str, asks: Mapping[str, Any], *, expires_seconds: int = 900
) -> dict[str, Any]:
    """The reply to what a worker asks a signer, for the object that the application knows it means."""
    _, sign = _presigner(profile, url, "destination", expires_seconds)
    if asks.get("kind") == "download":
        reading = sign.reading()
        return {"range_url": reading.url, "range_expires_at_unix_secs": reading.expires_at_unix_secs}
    upload, first, chunk = str(asks["upload_id"]), sign.first_part_number, int(asks["chunk_size"])
    parts = [
        sign.part(upload, int(each["part_number"]) - first, int(each["offset"]), min(chunk, int(each["size"])))
        for each in asks.get("parts", [])
    ]
    makers = {
        "complete_request": lambda: sign.completion(upload),
        "abort_request": lambda: sign.abortion(upload),
        "head_request": sign.head,
    }
    requests = {name: makers[name]() for name in asks.get("requests", []) if name in makers}
    return {
        "parts": [each.model_dump() for each in parts],
        **{name: made.model_dump() for name, made in requests.items() if made is not None},
    }


def check_signer_request(key: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises Forbidden for a request that no worker with this key made within the last five minutes."""
    told = {name.lower(): text for name, text in headers.items()}
    stamp, mark = told.get(TIMESTAMP.lower(), ""), told.get(SIGNATURE.lower(), "")
    is_fresh = stamp.isdigit() and abs(time.time() - int(stamp)) <= _REPLAY_SECONDS
    if not is_fresh or not hmac.compare_digest(signature(key, stamp, body), mark):
        raise Forbidden("the request to the signer has no fresh signature")


def _presigner(values: Mapping[str, str], url: str, role: Any, expires_seconds: int) -> tuple[Location, Presigner]:
    location = parse(url, role)
    profile = Profile("signing", dict(values))
    match location.scheme.name:
        case "s3":
            from providers.plans_s3 import S3Presigner

            return location, S3Presigner(location, profile, expires_seconds)
        case "azblob":
            from providers.plans_azure import AzurePresigner

            return location, AzurePresigner(location, profile, expires_seconds)
        case _:
            raise InvalidValue(role, location.shown, "an s3:// or azblob:// URL")
