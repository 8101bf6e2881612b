"""What is in the deployment files: their documents, commands, variables and ports, each with where it stands."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.servers.process import ServerMissing

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
FILES = [COMPOSE, DOCKERFILE, *sorted(path for path in DEPLOY.rglob("*") if path.is_file())]
UNIT = DEPLOY / "systemd" / "haulage-worker@.service"


def program(name: str, install: str) -> str:
    """A program beside Python's own or on the PATH. Raises ServerMissing."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise ServerMissing(f"{name} is missing: install {install}")
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file; a key that stands there twice is an error."""
    return [each for each in yaml.load_all(path.read_text("utf-8"), Loader=_StrictLoader) if each]


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(map(str, keys))), f"a key stands twice: {keys} {node.start_mark}"
        return super().construct_mapping(node, deep=deep)


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """(file:kind/name, manifest) of everything for Kubernetes but the list of files itself."""
    return [
        (f"{path.name}:{each['kind']}/{each['metadata']['name']}", each)
        for path in KUBERNETES
        for each in documents(path)
        if each["kind"] != "Kustomization"
    ]


def pods() -> list[tuple[str, dict[str, Any]]]:
    """(file:kind/name, pod spec) of what runs containers."""
    return [
        (name, each["spec"]["template"]["spec"]) for name, each in manifests() if "template" in each.get("spec", {})
    ]


def services() -> dict[str, dict[str, Any]]:
    """Services of compose.yml."""
    found: dict[str, dict[str, Any]] = documents(COMPOSE)[0]["services"]
    return found


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every `haulage` command in the files: (where, arguments after ``haulage``)."""
    for name, service in services().items():
        if "haulage" in str(service.get("image")):
            yield f"compose.yml:{name}", list(map(str, service["command"]))
    for name, pod in pods():
        for container in pod["containers"]:
            if container["image"] == "haulage":
                yield name, container["args"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                command = container.get(probe, {}).get("exec", {}).get("command", [])
                if command[:1] == ["haulage"]:
                    yield f"{name}:{probe}", command[1:]
    yield "Dockerfile:CMD", ["worker"]
    text = DOCKERFILE.read_text()
    (health,) = re.findall(r"HEALTHCHECK .*CMD \[(.*)\]", text)
    yield "Dockerfile:HEALTHCHECK", [each.strip(' "') for each in health.split(",")][1:]
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), flags=re.MULTILINE)
    yield UNIT.name, start.split()[1:]
    for path in FILES:
        if path.suffix != ".py":
            # In comments and Markdown: between backquotes, or after a prompt or `exec SERVICE`.
            for found in re.findall(r"`haulage ([a-z][^`]*)`", path.read_text("utf-8")):
                yield path.name, found.split()
