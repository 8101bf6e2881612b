"""A local file on its way to an Azure blob, through a proxy that can be slow and logs each block that was sent."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.e2e.routes import MIB, PART_SECONDS, Attempt, digest, noise
from tests.servers.azurite import Azurite
from tests.servers.logging_proxy import LoggingProxy


class LocalToAzure:
    """A ``Route``."""

    def __init__(
        self, store: Azurite, container: str, proxy: LoggingProxy, folder: Path, data: bytes, *, part_size: int
    ) -> None:
        self.size_bytes, self.part_size, self.expected = len(data), part_size, digest(data)
        self.proxy = proxy
        self.name = f"{uuid.uuid4().hex}.bin"
        self.blob = store.blob(container, self.name)
        path = folder / "source.bin"
        path.write_bytes(data)
        self.source = str(path)
        self.destination = f"azblob://{container}/{self.name}"
        values = {**store.profile, "endpoint": f"{proxy.endpoint}/{store.account}"}
        self.settings = {f"PROFILE_TO__{key.upper()}": value for key, value in values.items()}
        self.options: dict[str, Any] = {"part_size": part_size, "destination_profile": "to"}
        self.bytes_move = True

    def calm(self) -> None:
        self.proxy.calm()

    def attempts(self) -> list[list[Attempt]]:
        sent = self.proxy.requests("PUT", "comp=block&")
        return [[Attempt(_part_of(each.query), each.began, each.sent_bytes) for each in sent]]

    def arrived(self) -> str:
        return digest(self.blob.download_blob().readall())

    def stamp(self) -> object:
        facts = self.blob.get_blob_properties()
        return facts.etag, facts.last_modified, facts.size

    def leftovers(self) -> list[str]:
        return [each.id for each in self.blob.get_block_list("uncommitted")[1]]


def _part_of(query: str) -> int:
    (name,) = parse_qs(query)["blockid"]
    return int(base64.b64decode(name)[-8:]) + 1


@contextmanager
def open_azure_route(store: Azurite, container: str, folder: Path) -> Iterator[LocalToAzure]:
    """It starts slow, as ``open_route`` does it."""
    data, part_size = noise(6 * MIB + 17), MIB
    with LoggingProxy(store.origin) as proxy:
        proxy.bytes_per_second = int(part_size / PART_SECONDS)
        yield LocalToAzure(store, container, proxy, folder, data, part_size=part_size)
