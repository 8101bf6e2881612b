"""What stands beside a page while it runs: a home of its own, a fresh environment, servers in place of the world's.

The reader's ``https://example.org`` is a web server here, ``https://minio.internal:9000`` an S3 server, and port 6379
a free one; ``pip install 'haulage[...]'`` installs the wheel built from this checkout, with the versions of the lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil

from tests.servers.nginx import Nginx
from tests.servers.process import free_port
from tests.servers.s3_server import S3Server
from tests.servers.valkey import Valkey

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
_FILES = {"big.iso": 40 << 20, "small.txt": 12}

_PIP = """#!{python}
import os, re, sys
def ours(word):
    return re.sub(r"^haulage(\\[.*\\])?$", lambda match: f"haulage{{match[1] or ''}} @ {wheel}", word)
locks = ["--constraints={root}/requirements.lock", "--build-constraints={root}/requirements-build.lock"]
install = ["{uv}", "pip", sys.argv[1], "--quiet", "--python", "{venv}/bin/python", *locks]
os.execv(install[0], [*install, *map(ours, sys.argv[2:])])
"""


def build_wheel(folder: Path) -> Path:
    """A wheel of this checkout."""
    command = [str(UV), "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


class Surroundings:
    """``with Surroundings(wheel, needs) as around:`` one page's world, and nothing of it is left afterwards."""

    def __init__(self, wheel: Path, needs: frozenset[str], s3: S3Server | None) -> None:
        """``s3`` is shared between pages, because it takes its time to start."""
        self._wheel = wheel
        self._needs = needs
        self._s3 = s3
        self._stack = contextlib.ExitStack()
        self.replaced: dict[str, str] = {}
        self._more_env: dict[str, str] = {}

    def __enter__(self) -> Self:
        # Short: the path of a socket has room for a hundred characters.
        self.home = Path(tempfile.mkdtemp(prefix="hl-"))
        self.folder = self.home / "work"
        self.folder.mkdir()
        self._stack.callback(shutil.rmtree, self.home, ignore_errors=True)
        self._stack.callback(self._end_processes)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._stack.close)
            _check(self._needs)
            self._make_environment()
            for name in ("6379", "8000", "5555", "9108"):  # Redis, a web server, Flower, metrics
                self.replaced[name] = str(free_port())
            if "fleet" in self._needs:
                redis = self._stack.enter_context(Valkey(self.home / "redis"))
                self._more_env["HAULAGE_REDIS_URL"] = redis.url
            if "web" in self._needs:
                self._serve_web()
            if self._s3:
                self._name_s3(self._s3)
            (self.home / "tmp").mkdir()
            self.replaced["/tmp/"] = f"{self.home}/tmp/"  # pages run side by side
            on_failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def env(self) -> dict[str, str]:
        """Of the page's shell: nothing of this machine's but the programs of the system."""
        system = [each for each in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(each) != UV.parent]
        path = [str(self._venv / "bin"), *system]
        return {
            "HOME": str(self.home),
            "PATH": os.pathsep.join(path),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "TMPDIR": str(self.home / "tmp"),
            "UV_CACHE_DIR": subprocess.check_output([UV, "cache", "dir"], text=True).strip(),
            "NO_PROXY": "127.0.0.1,localhost",
            "HAULAGE_LEASE_SECONDS": "3",  # the reader waits ten after a kill; a test need not
            **self._more_env,
            **{name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))},
        }

    def here(self, text: str) -> str:
        """The text with the world's addresses replaced by those of this page's servers."""
        for there, ours in self.replaced.items():
            text = text.replace(there, ours)
        return text

    def _make_environment(self) -> None:
        self._venv = self.home / "venv"
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, self._venv], check=True)
        pip = self._venv / "bin/pip"
        pip.write_text(
            _PIP.format(python=sys.executable, wheel=self._wheel.as_uri(), root=ROOT, uv=UV, venv=self._venv)
        )
        pip.chmod(pip.stat().st_mode | stat.S_IXUSR)

    def _serve_web(self) -> None:
        root = self.home / "web"
        root.mkdir()
        for name, size in _FILES.items():
            (root / name).write_bytes((b"0123456789abcdef" * (size // 16 + 1))[:size])
        server = self._stack.enter_context(Nginx(root))
        self.replaced["https://example.org/"] = server.url()

    def _name_s3(self, server: S3Server) -> None:
        self.replaced |= {
            "https://minio.internal:9000": server.endpoint,
            "MINIO-ACCESS-KEY": server.access_key,
            "MINIO-SECRET-KEY": server.secret_key,
        }

    def _end_processes(self) -> None:
        """Whatever runs with or from this home was started by the page: engines and workers in the background too."""
        mine = list(_with_home(str(self.home)))
        for process in mine:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(mine, timeout=10)


def _check(needs: frozenset[str]) -> None:
    """``fleet``: a Redis that HAULAGE_REDIS_URL names. ``engine``: the machine's own, so nothing."""
    unknown = needs - {"engine", "fleet", "web", "s3"}
    assert not unknown, f"nobody knows what a page needs: {unknown}"


def _with_home(home: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # Valkey writes its title over its environment, but its program lies in the page's home too.
            if process.exe().startswith(f"{home}/") or process.environ().get("HOME") == home:
                yield process
