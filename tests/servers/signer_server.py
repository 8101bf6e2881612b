"""An application's signer, for tests: it checks who asks, answers with URLs, and can be away or lie.

with SignerServer(answer) as signer:
    plan = plan_presigned_upload(..., signer={"url": signer.url})
    signer.is_down = True
    assert signer.asked[0]["reason"] == "expiring"
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from providers.errors import Forbidden
from providers.plans_signing import check_signer_request

KEY = "canary-of-the-signer-key"
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class SignerServer:
    """``answer`` gives the reply to each request whose signature is right; ``is_down`` answers 503."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.is_down = False
        self.asked: list[dict[str, Any]] = []
        self.refused = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="signer", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/sign?app={KEY[:6]}-token"

    @property
    def profile(self) -> dict[str, str]:
        """Values of the profile that workers need."""
        return {"signer_key": KEY}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        signer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, reply = signer._reply(dict(self.headers.items()), body)
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _reply(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        if self.is_down:
            self.refused += 1
            return 503, {}
        try:
            check_signer_request(KEY, headers, body)
        except Forbidden:
            self.refused += 1
            return 403, {}
        asks = json.loads(body)
        self.asked.append(asks)
        return 200, self.answer(asks)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
