"""The manifests: valid for Kubernetes, and with settings that the worker takes."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import kubernetes_validate  # pyright: ignore[reportMissingTypeStubs]
import pytest
import yaml

from activities.worker_settings import load_settings
from tests.integration.processes import ROOT

MANIFESTS: list[Any] = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "worker.yaml").read_text()))
DEPLOYMENTS = [each for each in MANIFESTS if each["kind"] == "Deployment"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_a_manifest_is_valid(manifest: Any) -> None:
    """By the schemas of Kubernetes, strictly: a misspelt field is an error."""
    kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_a_field_that_is_misspelt_is_found() -> None:
    """The validator can say no."""
    wrong = json.loads(json.dumps(DEPLOYMENTS[0]))
    wrong["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["metadata"]["name"])
def test_the_worker_takes_the_settings(monkeypatch: pytest.MonkeyPatch, deployment: Any) -> None:
    """And the pod gets longer to end than the worker takes; probes ask where it answers."""
    for name in list(os.environ):
        if name.startswith("WORKER_"):
            monkeypatch.delenv(name)
    [config] = [each["data"] for each in MANIFESTS if each["kind"] == "ConfigMap"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    for name, value in {**config, **{each["name"]: each["value"] for each in container["env"]}}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    longest = settings.graceful_shutdown_timeout + settings.stop_timeout
    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) > longest
    # The image works in /data, and what is written by default goes below that.
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert ("/data" in mounts) == (settings.role == "jobs")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.health_address == f"0.0.0.0:{ports['health']}"
    assert settings.metrics_address == f"0.0.0.0:{ports['metrics']}"
    assert deployment["metadata"]["name"] == f"dedupe-{settings.role}"


@pytest.mark.parametrize("role", ["jobs", "keys"])
def test_the_worker_takes_the_settings_of_the_composition(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """And every file that is mounted is there."""
    for name in list(os.environ):
        if name.startswith("WORKER_"):
            monkeypatch.delenv(name)
    folder = ROOT / "deploy"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for name, value in services[role]["environment"].items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings()
    assert settings.role == role
    longest = settings.graceful_shutdown_timeout + settings.stop_timeout
    assert timedelta(seconds=int(services[role]["stop_grace_period"].removesuffix("s"))) > longest
    mounted = [volume for each in services.values() for volume in each.get("volumes", [])]
    sources = [volume.partition(":")[0] for volume in mounted if volume.startswith(".")]
    assert len(sources) > 2
    assert [source for source in sources if not (folder / source).exists()] == []


def test_the_image_has_what_the_worker_needs(tmp_path: Path) -> None:
    """What the Dockerfile copies is enough to start, and its lock holds every package that is imported."""
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line]
    for name in copied:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    done = subprocess.run(
        [sys.executable, "worker.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=_bare(),
    )
    assert done.returncode == 0, done.stderr
    locked = {
        re.split(r"[=\[ ]", line)[0].lower()
        for line in (ROOT / "deploy" / "requirements.lock").read_text().splitlines()
        if line and not line.startswith(("#", " "))
    }
    distributions = packages_distributions()
    imported = {name for path in tmp_path.rglob("*.py") for name in _imported(path)}
    assert {"temporalio", "sqlalchemy", "slack_sdk"} <= imported
    missing = {
        name
        for name in imported - set(sys.stdlib_module_names) - {path.stem for path in tmp_path.iterdir()}
        if not {each.lower().replace("_", "-") for each in distributions.get(name, [])} & locked
    }
    # The command line, the tools of agents and the fixture of tests are extras, and no part of the worker.
    assert missing <= {"agents", "click", "pydantic_ai", "pytest_asyncio"}


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def _bare() -> dict[str, str]:
    """Return an environment in which nothing leads back to this clone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
