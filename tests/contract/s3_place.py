"""What the tests of the S3 provider share: a place to write to, parts, and their plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from awscrt.checksums import crc64nvme

from providers.base import (
    ByteRange,
    BytesBody,
    Options,
    Part,
    PartReceipt,
    Profile,
    Services,
    UploadId,
    UploadPlan,
)
from providers.registry import open_destination, open_source
from providers.s3 import S3Destination
from providers.s3_source import S3Source
from providers.schemes import parse
from tests.servers.s3_server import S3Server

MIB = 1 << 20
PART = 5 * MIB
BUCKET = "contract"
FIRST, SECOND, LAST = b"1" * PART, b"2" * PART, b"the end"
THREE = (FIRST, SECOND, LAST)
SERVICES = Services(connect_seconds=5, read_seconds=20)


class Place:
    """One fresh key, and what tests do with it."""

    def __init__(self, server: S3Server, key: str, **values: str) -> None:
        self.server = server
        self.key = key
        self.profile = Profile("test", {**server.profile, **values})

    def destination(self, **options: Any) -> S3Destination:
        asked = Options(**{"transfer_id": "t1", **options})
        found = open_destination(parse(f"s3://{BUCKET}/{self.key}", "destination"), self.profile, asked, SERVICES)
        assert isinstance(found, S3Destination)
        return found

    def source(self) -> S3Source:
        found = open_source(parse(f"s3://{BUCKET}/{self.key}", "source"), self.profile, Options(), SERVICES)
        assert isinstance(found, S3Source)
        return found

    def write(self, body: bytes) -> None:
        self.server.client().put_object(Bucket=BUCKET, Key=self.key, Body=body)

    def read(self) -> bytes:
        return self.server.read(BUCKET, self.key)

    def head(self) -> Any:
        return self.server.client().head_object(Bucket=BUCKET, Key=self.key)

    @property
    def is_there(self) -> bool:
        found = self.server.client().list_objects_v2(Bucket=BUCKET, Prefix=self.key).get("Contents", [])
        return any(each["Key"] == self.key for each in found)


def plan_for(bodies: Sequence[bytes]) -> UploadPlan:
    return UploadPlan(sum(map(len, bodies)), PART, len(bodies))


def part(number: int, body: bytes) -> Part:
    start = (number - 1) * PART
    return Part(number, ByteRange(start, start + len(body)))


def put(to: S3Destination, upload: UploadId, number: int, body: bytes) -> PartReceipt:
    """As the copy engine does: the checksum of what passed goes into the receipt."""
    receipt = to.put_part(upload, part(number, body), BytesBody(body))
    return replace(receipt, crc64nvme=crc64nvme(body))


def upload_all(to: S3Destination, bodies: Sequence[bytes]) -> tuple[UploadId, list[PartReceipt]]:
    upload = to.create_upload(plan_for(bodies))
    return upload, [put(to, upload, number, body) for number, body in enumerate(bodies, 1)]


def drain(body: Any) -> bytes:
    buffer, data = memoryview(bytearray(64 << 10)), bytearray()
    while count := body.readinto(buffer):
        data += buffer[:count]
    body.close()
    return bytes(data)


def error_xml(code: str, message: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
