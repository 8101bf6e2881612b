"""``haulage flower`` as a process, and what it answers."""

from __future__ import annotations

import base64
import json
import re
import sys
import urllib.error
import urllib.request
from typing import Any

from orchestrator.dispatch import make_app
from tests.e2e.engine_world import EngineWorld
from tests.e2e.fleet import CHECKOUT, PATIENCE_SECONDS, Fleet, eventually
from tests.servers.process import ServerProcess

USER, PASSWORD = "looker", "canary-flower-password-19"


class FlowerServer(ServerProcess):
    """``haulage flower`` on a free port."""

    def __init__(self, fleet: Fleet | EngineWorld, *options: str, password: str | None = PASSWORD) -> None:
        """``password`` None: it is given none, and makes one up."""
        fleet.folder.mkdir(mode=0o700, exist_ok=True)
        given = {} if password is None else {"HAULAGE_FLOWER_PASSWORD": password}
        self.log_file = fleet.folder / f"flower{len(list(fleet.folder.glob('flower*.log')))}.log"
        super().__init__(
            [sys.executable, "-m", "haulage", "flower", "--port", "0", "--user", USER, *options],
            log=self.log_file,
            ready=lambda: "/tasks" in self.said,
            env={**fleet.environment, **given},
            cwd=CHECKOUT,
            deadline_seconds=PATIENCE_SECONDS,
        )

    @property
    def said(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    @property
    def base(self) -> str:
        found = re.search(r"http://\S+/tasks", self.said)
        assert found, self.said
        return found[0].removesuffix("/tasks")

    def ask(
        self, path: str, *, user: str = USER, password: str | None = PASSWORD, form: str | None = None
    ) -> tuple[int, str]:
        """Status and text of one page."""
        data = form.encode() if form else None
        request = urllib.request.Request(self.base + path, data=data)  # noqa: S310  # it begins with http://
        if password is not None:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def get(self, path: str, *, password: str | None = PASSWORD) -> str:
        """A page that has to be there."""
        status, text = self.ask(path, password=password)
        assert status == 200, (path, status, text)
        return text

    def rows(self, *, password: str | None = PASSWORD) -> dict[str, dict[str, Any]]:
        """All tasks that Flower knows, by id."""
        return dict(json.loads(self.get("/api/tasks?limit=1000", password=password)))

    def wait_worker(self) -> None:
        """Until Flower hears a worker."""
        eventually(lambda: "flower_worker_online{" in self.get("/metrics", password=None), "events of a worker")

    def wait_watching(self, fleet: Fleet) -> None:
        """Until Flower hears the worker, and the worker sends events of tasks: Flower asks anew every five seconds."""
        self.wait_worker()
        with make_app(fleet.settings) as app:
            eventually(lambda: bool(app.control.enable_events(reply=True)), "a worker that sends events of tasks")
