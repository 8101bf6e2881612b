"""What the tests of the OSS provider share: a place to write to, parts, and their plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from awscrt.checksums import crc64nvme

from providers.base import ByteRange, BytesBody, Options, Part, PartReceipt, Profile, Services, UploadId, UploadPlan
from providers.oss import OssDestination
from providers.oss_source import OssSource
from providers.registry import open_destination, open_source
from providers.schemes import parse
from tests.contract.objects import noise
from tests.servers.oss_server import OssServer

BUCKET = "contract"
PART = 100 << 10
FIRST, SECOND, LAST = noise(PART, 1), noise(PART, 2), b"the end"
THREE = (FIRST, SECOND, LAST)
SERVICES = Services(connect_seconds=5, read_seconds=20)


class Place:
    """One fresh key, and what tests do with it. ``values`` are added to those of the server's profile."""

    def __init__(self, server: OssServer, key: str, **values: str) -> None:
        self.server = server
        self.key = key
        self.profile = Profile("test", {**server.profile, **values})

    def by(self, **values: str) -> Place:
        """The same object, by another profile."""
        return Place(self.server, self.key, **values)

    def destination(self, **options: Any) -> OssDestination:
        asked = Options(**{"transfer_id": "t1", **options})
        found = open_destination(parse(f"oss://{BUCKET}/{self.key}", "destination"), self.profile, asked, SERVICES)
        assert isinstance(found, OssDestination)
        return found

    def source(self) -> OssSource:
        found = open_source(parse(f"oss://{BUCKET}/{self.key}", "source"), self.profile, Options(), SERVICES)
        assert isinstance(found, OssSource)
        return found

    @property
    def bucket(self) -> Any:
        """By the vendor's SDK."""
        return self.server.bucket(BUCKET)

    def write(self, body: bytes) -> None:
        self.bucket.put_object(self.key, body)

    def read(self) -> bytes | None:
        return self.server.read_if_there(BUCKET, self.key)

    def head(self) -> Any:
        return self.bucket.head_object(self.key)


def plan_for(bodies: Sequence[bytes]) -> UploadPlan:
    return UploadPlan(sum(map(len, bodies)), PART, len(bodies))


def part(number: int, body: bytes) -> Part:
    start = (number - 1) * PART
    return Part(number, ByteRange(start, start + len(body)))


def put(to: OssDestination, upload: UploadId, number: int, body: bytes) -> PartReceipt:
    """As the copy engine does: the checksum of what passed goes into the receipt."""
    receipt = to.put_part(upload, part(number, body), BytesBody(body))
    return replace(receipt, crc64nvme=crc64nvme(body))


def upload_all(to: OssDestination, bodies: Sequence[bytes]) -> tuple[UploadId, list[PartReceipt]]:
    upload = to.create_upload(plan_for(bodies))
    return upload, [put(to, upload, number, body) for number, body in enumerate(bodies, 1)]


def error_xml(code: str, message: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
