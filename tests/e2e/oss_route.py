"""A local file on its way to an OSS object, through a proxy that can be slow and logs each part that was sent."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.routes import KIB, PART_SECONDS, Attempt, digest, noise
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.oss_server import OssServer


class LocalToOss:
    """A ``Route``."""

    def __init__(
        self, store: OssServer, bucket: str, proxy: LoggingProxy, folder: Path, data: bytes, *, part_size: int
    ) -> None:
        self.size_bytes, self.part_size, self.expected = len(data), part_size, digest(data)
        self.proxy = proxy
        self.store, self.bucket = store, bucket
        self.key = f"{uuid.uuid4().hex}.bin"
        path = folder / "source.bin"
        path.write_bytes(data)
        self.source = str(path)
        self.destination = f"oss://{bucket}/{self.key}"
        values = {**store.profile, "endpoint": proxy.endpoint}
        self.settings = {f"PROFILE_TO__{key.upper()}": value for key, value in values.items()}
        self.options: dict[str, Any] = {"part_size": part_size, "destination_profile": "to"}
        self.bytes_move = True

    def calm(self) -> None:
        self.proxy.calm()

    def attempts(self) -> list[list[Attempt]]:
        sent = self.proxy.requests("PUT", "partNumber=")
        return [[Attempt(each.part_number or 0, each.began, each.sent_bytes) for each in sent]]

    def arrived(self) -> str:
        return digest(self.store.read(self.bucket, self.key))

    def stamp(self) -> object:
        facts = self.store.bucket(self.bucket).head_object(self.key)
        return facts.etag, facts.last_modified, facts.content_length

    def leftovers(self) -> list[str]:
        open_uploads = self.store.bucket(self.bucket).list_multipart_uploads(prefix=self.key).upload_list
        return [each.upload_id for each in open_uploads]


@contextmanager
def open_oss_route(store: OssServer, bucket: str, folder: Path) -> Iterator[LocalToOss]:
    """It starts slow, as ``open_route`` does it."""
    data, part_size = noise(6 * 256 * KIB + 17), 256 * KIB
    with LoggingProxy(store.endpoint) as proxy:
        proxy.bytes_per_second = int(part_size / PART_SECONDS)
        yield LocalToOss(store, bucket, proxy, folder, data, part_size=part_size)
