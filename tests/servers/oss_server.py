"""A stand-in for Aliyun OSS in this process: signatures verified from the wire, multipart upload, ranges, copies.

    with OssServer() as server:
        server.make_bucket("things")
        bucket = server.bucket("things")                    # by oss2; ``server.profile`` is for ours
        server.skew_seconds = 1200                          # its clock is ahead of ours
        server.credentials[...] = Credential(...)           # keys that come with a token, and end

There is no emulator of OSS that checks anything, so this one is vouched for by both of Alibaba's SDKs, see
``tests/contract/test_oss_server.py``. An object is reached as ``/bucket/key``, as ``bucket.oss.test/key`` (names below
``DOMAIN`` have to be resolved by the test) and by the hosts in ``cnames``.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import sys
import threading
import time
import uuid
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote
from xml.sax.saxutils import escape

from providers.oss_sdk import oss2
from tests.servers.oss_server_auth import Asked, Credential, Door, Refused
from tests.servers.oss_server_calls import Answer, answer
from tests.servers.oss_server_store import Store

__all__ = ["DOMAIN", "REGION", "Credential", "OssServer"]

DOMAIN = "oss.test"
REGION = "cn-test"


class OssServer:
    """See the module's docstring. Thread-safe; everything may be changed while it serves."""

    def __init__(self) -> None:
        self.access_key, self.secret_key = f"AK{uuid.uuid4().hex[:14]}", uuid.uuid4().hex
        self.cnames: dict[str, str] = {}
        """Host -> bucket."""
        self.skew_seconds = 0.0
        self.store = Store()
        self._door = Door(REGION, [Credential(self.access_key, self.secret_key)])
        self.credentials = self._door.credentials
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.port: int = self._http.server_address[1]
        self._session = _ReadingSession()
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join()
        self._session.session.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def profile(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "region": REGION,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    @property
    def now(self) -> float:
        return time.time() + self.skew_seconds

    def make_bucket(self, name: str) -> None:
        self.store.make_bucket(name)

    def bucket(self, name: str, *, signature: str = "v1", auth: Any = None, **options: Any) -> Any:
        """The vendor's client of one bucket."""
        auth = auth or oss2.make_auth(self.access_key, self.secret_key, signature)
        return oss2.Bucket(
            auth, bucket_name=name, session=self._session, **{"endpoint": self.endpoint, "region": REGION, **options}
        )

    def read(self, bucket: str, key: str) -> bytes:
        """By the vendor's client, which compares the bytes with the checksum that was told."""
        data: bytes = self.bucket(bucket).get_object(key).read()
        return data

    def read_if_there(self, bucket: str, key: str) -> bytes | None:
        try:
            return self.read(bucket, key)
        except oss2.exceptions.NoSuchKey:
            return None

    def place_of(self, host: str, target: str) -> tuple[str, str]:
        """Bucket and key of a request. oss2 sends a key's slashes as %2F: it is cut before it is decoded."""
        path = target.partition("?")[0].removeprefix("/")
        name = host.rpartition(":")[0] or host
        if name in self.cnames:
            return self.cnames[name], unquote(path)
        if name.endswith(f".{DOMAIN}"):
            return name.removesuffix(f".{DOMAIN}"), unquote(path)
        bucket, _, key = path.partition("/")
        return unquote(bucket), unquote(key)

    def answer(self, asked: Asked, body: bytes) -> Answer:
        self._door.check(asked, self.now)
        return answer(self.store, asked, body)


class _ReadingSession(oss2.Session):
    """Reads each reply to its end: the SDK leaves some of them, and their connections, to the garbage collector."""

    def do_request(self, request: Any, timeout: object) -> Any:
        reply = super().do_request(request, timeout)
        _ = reply.response.content
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    owner: OssServer

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._live: set[socket.socket] = set()

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        self._live.add(connection)
        return connection, peer

    def shutdown_request(self, request: Any) -> None:
        self._live.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no news
            super().handle_error(request, client_address)


class _ClientLeft(Exception):
    """The connection ended in the middle of a body."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together
    server: _Server

    def log_message(self, format: str, *args: object) -> None: ...

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (_ClientLeft, OSError):
            self.close_connection = True

    def do_GET(self) -> None:
        body = self._body()
        asked = self._asked()
        try:
            reply = self.server.owner.answer(asked, body)
        except Refused as refused:
            reply = _refusal(asked, refused)
        self._send(reply)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _asked(self) -> Asked:
        bucket, key = self.server.owner.place_of(self.headers.get("Host", ""), self.path)
        pairs = (each.partition("=") for each in self.path.partition("?")[2].split("&") if each)
        query = {unquote(name.replace("+", " ")): unquote(value.replace("+", " ")) for name, _, value in pairs}
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(self.command, bucket, key, query, headers)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return b"".join(self._chunks())
        return self._exactly(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Any:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self._exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _exactly(self, count: int) -> bytes:
        data = self.rfile.read(count)
        if len(data) < count:
            raise _ClientLeft
        return data

    def _send(self, reply: Answer) -> None:
        self.send_response_only(reply.status)
        headers = {
            "Server": "AliyunOSS",
            "Date": formatdate(self.server.owner.now, usegmt=True),
            "x-oss-request-id": uuid.uuid4().hex[:24].upper(),
            **reply.headers,
        }
        if reply.status not in (204, 304):
            headers["Content-Length"] = str(len(reply.body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)


def _refusal(asked: Asked, refused: Refused) -> Answer:
    fields = {"Code": refused.code, "Message": refused.message, "HostId": DOMAIN, "EC": "0000-00000000"}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in {**fields, **refused.details}.items())
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()
    if refused.status == 304:
        return Answer(304)
    if asked.method == "HEAD":
        return Answer(refused.status, headers={"x-oss-err": base64.b64encode(xml).decode()})
    return Answer(refused.status, xml, {"Content-Type": "application/xml"})
