"""The image of the worker, built on a Debian that is made here, and run as the manifests run it."""

import asyncio
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from docker.models.containers import Container
from testcontainers.core.docker_client import DockerClient

from tests.integration.processes import ROOT
from tests.integration.temporal_container import LABEL
from tests.integration.worker_command import welcome
from tests.support.debian import debian, why_no_debian
from tests.support.servers import free_port
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.torture, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image that deploy/Dockerfile makes."""
    if why := why_no_debian():
        pytest.skip(why)
    engine = DockerClient().client
    with debian(engine) as base:
        tag = f"temporal-dedupe-worker:{os.getpid()}"
        engine.images.build(
            path=str(ROOT), dockerfile="deploy/Dockerfile", tag=tag, buildargs={"PYTHON": base}, rm=True
        )
        try:
            yield tag
        finally:
            engine.images.remove(tag, force=True)


def _composed(role: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the environment and the restrictions of a service in deploy/compose.yaml."""
    service = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"][role]
    environment = {name: str(value) for name, value in service["environment"].items()}
    restrictions = {
        **{name: service[name] for name in ("read_only", "cap_drop", "security_opt")},
        "tmpfs": {
            path: options for path, _, options in (str(each).partition(":") for each in service["tmpfs"])
        },
    }
    return environment, restrictions


@pytest.fixture
def container(image: str, running_server: str, settings: dict[str, str]) -> Iterator[tuple[Container, str]]:
    """A worker as the composition runs it, beside this machine's server; and where it says how it is."""
    environment, restrictions = _composed("jobs")
    del environment["WORKER_DATABASE_URL"]
    health = f"127.0.0.1:{free_port()}"
    names = ("WORKER_ORGANIZATION", "WORKER_PROJECT", "WORKER_TASK_QUEUE")
    running: Container = DockerClient().client.containers.run(
        image,
        detach=True,
        network_mode="host",
        labels={LABEL: "worker"},
        environment={
            **environment,
            **{name: settings[name] for name in names},
            "TEMPORAL_ADDRESS": running_server,
            "WORKER_ROLE": "all",
            "WORKER_HEALTH_ADDRESS": health,
            "WORKER_METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
        },
        **restrictions,
    )
    yield running, health
    running.remove(force=True)


async def test_the_image_runs_jobs_and_drains(
    container: tuple[Container, str], running_server: str, settings: dict[str, str]
) -> None:
    """As a user without rights, on a file system that is read only; a stop is a drain, and no kill."""
    running, health = container

    async def is_ready() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"http://{health}/readyz")).is_success
            except httpx.TransportError:
                return False

    try:
        await until(is_ready, what="a worker that is ready")
        job = await welcome(running_server, settings)
        async with asyncio.timeout(30):
            await job.result()
        said: Any
        _, said = running.exec_run(["sh", "-c", "id -u; ls /data/var/outbox/new | wc -l; touch /app/x"])
        assert re.fullmatch(r"65532\n1\n.*Read-only file system\n", str(said, "utf-8")), said
    except BaseException as error:
        error.add_note(running.logs().decode()[-2_000:])
        raise
    await asyncio.to_thread(running.stop, timeout=60)
    running.reload()
    assert running.attrs["State"]["ExitCode"] == 0
    assert "drained" in running.logs().decode()
