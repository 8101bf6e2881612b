"""What the tests of the Azure provider share: a place to write to, parts, and their plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from awscrt.checksums import crc64nvme
from azure.storage.blob import BlobClient

from providers.azure import AzureDestination
from providers.azure_source import AzureSource
from providers.base import ByteRange, BytesBody, Options, Part, PartReceipt, Profile, Services, UploadId, UploadPlan
from providers.registry import open_destination, open_source
from providers.schemes import parse
from tests.contract.objects import noise
from tests.servers.azurite import Azurite

CONTAINER = "contract"
PART = 64 << 10
FIRST, SECOND, LAST = noise(PART, 1), noise(PART, 2), b"the end"
THREE = (FIRST, SECOND, LAST)
SERVICES = Services(connect_seconds=5, read_seconds=20)


class Place:
    """One fresh blob, and what tests do with it. ``values`` replace those of the server's profile."""

    def __init__(self, server: Azurite, name: str, **values: str) -> None:
        self.server = server
        self.name = name
        self.url = f"azblob://{CONTAINER}/{name}"
        told = {**server.profile, **values}
        self.profile = Profile("test", {key: value for key, value in told.items() if value})

    def at(self, origin: str) -> Place:
        """The same blob, reached through a proxy."""
        return Place(self.server, self.name, endpoint=f"{origin}/{self.server.account}")

    def sas(self, permissions: str = "rwcd", *, lasts: timedelta = timedelta(hours=1)) -> str:
        return self.server.sas(CONTAINER, permissions, lasts=lasts)

    def by_sas(self, sas: str) -> Place:
        """The same blob, reached by a SAS alone."""
        return Place(self.server, self.name, key="", sas_token=sas)

    def destination(self, **options: Any) -> AzureDestination:
        asked = Options(**{"transfer_id": "t1", **options})
        found = open_destination(parse(self.url, "destination"), self.profile, asked, SERVICES)
        assert isinstance(found, AzureDestination)
        return found

    def source(self) -> AzureSource:
        found = open_source(parse(self.url, "source"), self.profile, Options(), SERVICES)
        assert isinstance(found, AzureSource)
        return found

    @property
    def blob(self) -> BlobClient:
        """By the vendor's SDK."""
        return self.server.blob(CONTAINER, self.name)

    def write(self, body: bytes) -> None:
        self.blob.upload_blob(body, overwrite=True)

    def read(self) -> bytes | None:
        return self.server.read_if_there(CONTAINER, self.name)


def plan_for(bodies: Sequence[bytes]) -> UploadPlan:
    return UploadPlan(sum(map(len, bodies)), PART, len(bodies))


def part(number: int, body: bytes) -> Part:
    start = (number - 1) * PART
    return Part(number, ByteRange(start, start + len(body)))


def put(to: AzureDestination, upload: UploadId, number: int, body: bytes) -> PartReceipt:
    """As the copy engine does: the checksum of what passed goes into the receipt."""
    receipt = to.put_part(upload, part(number, body), BytesBody(body))
    return replace(receipt, crc64nvme=crc64nvme(body))


def upload_all(to: AzureDestination, bodies: Sequence[bytes]) -> tuple[UploadId, list[PartReceipt]]:
    upload = to.create_upload(plan_for(bodies))
    return upload, [put(to, upload, number, body) for number, body in enumerate(bodies, 1)]
