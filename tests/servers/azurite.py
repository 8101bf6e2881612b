"""A real Azure Blob server for tests: Azurite, which checks every Shared Key signature and SAS.

    with Azurite(tmp_path / "azure") as server:
        server.make_container("things")
        server.blob("things", "a").upload_blob(b"bytes")

Two at a time are fine.
"""

from __future__ import annotations

import base64
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobServiceClient, ContainerSasPermissions, generate_container_sas

from tests.servers.azurite_install import azurite_command
from tests.servers.process import LOOPBACK, ServerProcess, free_port

_API_VERSION = "2023-11-03"


class Azurite(ServerProcess):
    """``folder`` keeps data and log."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        self.account = f"acct{secrets.token_hex(4)}"
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.port = free_port()
        self._client: BlobServiceClient | None = None
        node, script = azurite_command()
        super().__init__(
            [
                *(node, script, "--blobHost", LOOPBACK, "--blobPort", str(self.port), "--location", folder / "data"),
                *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
            ],
            log=folder / "server.log",
            ready=self._answers,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}", "HOME": str(folder)},
            cwd=folder,
        )

    @property
    def origin(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def endpoint(self) -> str:
        """Accounts are folders here, not host names."""
        return f"{self.origin}/{self.account}"

    @property
    def profile(self) -> dict[str, str]:
        """Values of a profile that reaches this server."""
        return {"endpoint": self.endpoint, "account": self.account, "key": self.key}

    def client(self) -> BlobServiceClient:
        """The vendor's own client: the other road, for preparing and for reading back."""
        if self._client is None:
            credential = {"account_name": self.account, "account_key": self.key}
            self._client = BlobServiceClient(
                self.endpoint, credential=credential, api_version=_API_VERSION, retry_total=0
            )
        return self._client

    def make_container(self, name: str) -> str:
        self.client().create_container(name)
        return name

    def blob(self, container: str, name: str) -> BlobClient:
        return self.client().get_blob_client(container, name)

    def read(self, container: str, name: str) -> bytes:
        data: bytes = self.blob(container, name).download_blob().readall()
        return data

    def read_if_there(self, container: str, name: str) -> bytes | None:
        try:
            return self.read(container, name)
        except ResourceNotFoundError:
            return None

    def sas(self, container: str, permissions: str = "rwcd", *, lasts: timedelta = timedelta(hours=1)) -> str:
        """A SAS for the blobs of a container; of letters: r(ead) w(rite) c(reate) d(elete).

        One for the whole account cannot copy blocks here: the server answers 500.
        """
        return generate_container_sas(
            self.account,
            container,
            account_key=self.key,
            permission=ContainerSasPermissions(
                read="r" in permissions,
                write="w" in permissions,
                create="c" in permissions,
                delete="d" in permissions,
            ),
            expiry=datetime.now(UTC) + lasts,
        )

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """By SIGKILL: nobody starts it again on its data."""
        self.kill()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _answers(self) -> bool:
        """A signed request is answered: only this server knows the key."""
        try:
            list(self.client().list_containers())
        except AzureError:
            return False
        return True
