"""A server of the chunked HTTP upload protocol for tests: real storage, a log of every form, and a script to misbehave.

    with ChunkedServer(folder) as server:
        server.url("report.bin")                    # chunked+http://127.0.0.1:PORT/upload#report.bin
        server.prepare_script += [Reply(next_byte=-5)]
        server.chunk_script += [None, Reply(next_byte=0), Reply(status=503)]    # None: an honest answer
        ...
        assert server.stored("report.bin") == DATA

Files are kept on disk by (fileMd5, fileName), as the bytes held without a gap; what is sent again is taken again. A new
server on the same folder goes on where the last one ended. A form that is cut stores nothing: its offset comes last.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

_PIECE_BYTES = 64 << 10


@dataclass(frozen=True)
class Reply:
    """A scripted answer. ``body`` is sent as it is; ``forget``: first drop what is stored from this byte on."""

    next_byte: Any = None
    file_id: Any = None
    status: int = 200
    body: bytes | None = None
    forget: int | None = None
    hang_up: bool = False
    """Store what came, then end the connection without an answer."""


@dataclass
class Form:
    """One request: the text fields in their order, and what is known of the file part."""

    method: str
    path: str
    headers: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    file_head: str = ""
    file_bytes: int = 0
    whole: bool = False

    @property
    def is_chunk(self) -> bool:
        return "file" in self.order


class ChunkedServer:
    """See the module's docstring. ``bytes_per_second`` may be changed while it serves; None: as fast as it goes."""

    def __init__(self, folder: Path, *, port: int = 0, says_file_id: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.says_file_id = says_file_id
        self.bytes_per_second: float | None = None
        self.prepare_script: list[Reply | None] = []
        self.chunk_script: list[Reply | None] = []
        self.forms: list[Form] = []
        self.busiest = 0
        """The most chunk requests that were open at one time."""
        self.lock = threading.Lock()
        self.file_locks: dict[Path, threading.Lock] = defaultdict(threading.Lock)
        self.open_chunks = 0
        self.stopping = threading.Event()
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def url(self, name: str = "") -> str:
        return f"chunked+http://127.0.0.1:{self.port}/upload" + (f"#{name}" if name else "")

    @property
    def prepares(self) -> list[Form]:
        return [each for each in self.forms if not each.is_chunk]

    @property
    def chunks(self) -> list[Form]:
        return [each for each in self.forms if each.is_chunk]

    @property
    def offsets(self) -> list[int]:
        """Where each chunk began."""
        return [int(each.fields.get("offset", -1)) for each in self.chunks]

    @property
    def bytes_taken(self) -> int:
        return sum(each.file_bytes for each in self.chunks)

    def stored(self, name: str) -> bytes | None:
        """What is held under this name, complete or not."""
        found = [each for each in self.folder.glob("*.bin") if each.with_suffix(".name").read_text() == name]
        return found[0].read_bytes() if found else None

    def hold(self, name: str, whole: bytes, count: int) -> None:
        """Make it hold the first ``count`` bytes of ``whole`` beforehand."""
        self.path(hashlib.md5(whole).hexdigest(), name).write_bytes(whole[:count])  # noqa: S324  # the protocol's own

    def path(self, md5: str, name: str) -> Path:
        path = self.folder / f"{md5}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.bin"
        path.touch()
        path.with_suffix(".name").write_text(name)
        return path

    def next_reply(self, form: Form) -> Reply | None:
        with self.lock:
            script = self.chunk_script if form.is_chunk else self.prepare_script
            return script.pop(0) if script else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    owner: ChunkedServer

    def server_bind(self) -> None:
        """Little waits in the kernel, so that a killed client leaves a form that is cut."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE_BYTES)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None: ...

    def do_POST(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.form = Form(self.command, self.path, headers)
        self.left = int(headers["content-length"])
        with owner.lock:
            owner.forms.append(self.form)
        boundary = re.fullmatch(r"multipart/form-data; boundary=(\S+)", headers["content-type"])
        assert boundary is not None, headers["content-type"]
        self._take(boundary[1].encode())
        self.form.whole = True
        self._answer()

    do_PUT = do_PATCH = do_POST

    def _answer(self) -> None:
        owner, fields = self.server.owner, self.form.fields
        script = owner.next_reply(self.form)
        path = owner.path(fields["fileMd5"], fields["fileName"])
        if script and script.forget is not None:
            with path.open("r+b") as file:
                file.truncate(script.forget)
        if script and script.hang_up:
            self.close_connection = True
            return
        held, total = path.stat().st_size, int(fields["totalSize"])
        said: dict[str, Any] = {"nextByte": held, "status": "ok"}
        if held >= total and owner.says_file_id:
            said = {"fileId": f"id-{fields['fileMd5'][:8]}"}
        if script:
            pairs = (("nextByte", script.next_byte), ("fileId", script.file_id))
            said = {name: value for name, value in pairs if value is not None}
        body = script.body if script and script.body is not None else json.dumps(said).encode()
        self.send_response(script.status if script else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _take(self, boundary: bytes) -> None:
        """Read the form part by part."""
        delimiter = b"--" + boundary
        assert self._line() == delimiter
        while True:
            head = b""
            while line := self._line():
                head += line + b"\r\n"
            disposition = str(BytesHeaderParser().parsebytes(head)["Content-Disposition"])
            name = re.search(r'\bname="([^"]*)"', disposition)
            assert name is not None
            self.form.order.append(name[1])
            if name[1] == "file":
                self.form.file_head = head.decode()
                ended = self._take_file(delimiter)
            else:
                ended = self._take_text(name[1], delimiter)
            if ended:
                return

    def _take_text(self, name: str, delimiter: bytes) -> bool:
        lines = []
        while not (line := self._line()).startswith(delimiter):
            lines.append(line)
        self.form.fields[name] = b"\r\n".join(lines).decode()
        return line == delimiter + b"--"

    def _take_file(self, delimiter: bytes) -> bool:
        """The fields that say where the bytes go come after them, so what is cut is not stored."""
        owner = self.server.owner
        with owner.lock:
            owner.open_chunks += 1
            owner.busiest = max(owner.busiest, owner.open_chunks)
        try:
            data = self._until_tail(delimiter)
        finally:
            with owner.lock:
                owner.open_chunks -= 1
        self._take_rest(delimiter)
        self._store(data)
        return True

    def _until_tail(self, delimiter: bytes) -> bytes:
        data, mark = bytearray(), b"\r\n" + delimiter
        began = time.monotonic()
        while (at := data.find(mark, max(0, self.form.file_bytes - len(mark)))) < 0:
            self.form.file_bytes = len(data)
            piece = self.rfile.read1(min(_PIECE_BYTES, self.left))
            if not piece:
                raise ConnectionError("cut")
            self.left -= len(piece)
            data += piece
            rate = self.server.owner.bytes_per_second
            ahead = len(data) / rate - (time.monotonic() - began) if rate else 0.0
            if ahead > 0 and self.server.owner.stopping.wait(min(ahead, 0.5)):
                raise ConnectionError("stopped")
        self.form.file_bytes = at
        self._rest = bytes(data[at + 2 :]) + self.rfile.read(self.left)
        self.left = 0
        return bytes(data[:at])

    def _take_rest(self, delimiter: bytes) -> None:
        for text in self._rest.split(delimiter)[1:-1]:
            head, _, value = text.partition(b"\r\n\r\n")
            name = re.search(rb'name="([^"]*)"', head)
            assert name is not None
            self.form.order.append(name[1].decode())
            self.form.fields[name[1].decode()] = value.removesuffix(b"\r\n").decode()

    def _store(self, data: bytes) -> None:
        owner, fields = self.server.owner, self.form.fields
        path, offset = owner.path(fields["fileMd5"], fields["fileName"]), int(fields["offset"])
        with owner.file_locks[path], path.open("r+b") as file:
            held = path.stat().st_size
            if offset <= held:  # a gap is not stored
                file.seek(offset)
                file.write(data)

    def _line(self) -> bytes:
        line = self.rfile.readline()
        self.left -= len(line)
        if not line:
            raise ConnectionError("cut")
        return line.removesuffix(b"\r\n")
