"""`python worker.py` in operation: roles, health, metrics, logs and versions."""

import asyncio
import json
import signal
import socket
from asyncio.subprocess import Process
from typing import Any

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from tests.fakes.resend_server import ResendServer
from tests.integration.worker_command import line_with, run, start, welcome, worker
from tests.support.waiting import until
from workflows.onboarding import Onboarded


def address() -> str:
    """Return an address that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def answer(url: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    async with httpx.AsyncClient() as client:
        response = await client.get(url)
    return response.status_code, response.json()


async def polls(process: Process, client: Client, task_queue: str) -> bool:
    """Return whether a process polls a task queue for workflow tasks."""
    request = DescribeTaskQueueRequest(
        namespace="default",
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    found = await client.workflow_service.describe_task_queue(request)
    return any(poller.identity.startswith(f"{process.pid}@") for poller in found.pollers)


async def result_of(job: WorkflowHandle[Any, Onboarded]) -> Onboarded:
    """Return what a job came to."""
    async with asyncio.timeout(30):
        return await job.result()


async def test_health(settings: dict[str, str], resend: ResendServer, running_server: str) -> None:
    """A worker is alive and ready; one that drains is alive only."""
    settings["WORKER_HEALTH_ADDRESS"] = where = address()
    async with worker(settings, running_server) as process:
        assert await answer(f"http://{where}/livez") == (200, {"status": "ok", "reason": None})

        async def is_ready() -> bool:
            return (await answer(f"http://{where}/readyz"))[0] == 200

        await until(is_ready, what="a worker that is ready")
        assert (await answer(f"http://{where}/livez?probe=1"))[0] == 200
        await welcome(running_server, settings)
        with resend.paused():
            await asyncio.to_thread(resend.arrived.acquire, timeout=30)
            process.send_signal(signal.SIGTERM)
            await line_with(process, "SIGTERM: draining")
            draining = {"status": "unavailable", "reason": "draining"}
            assert await answer(f"http://{where}/readyz") == (503, draining)
            assert (await answer(f"http://{where}/livez"))[0] == 200
        await line_with(process, "drained")


async def test_a_health_address_that_is_taken(settings: dict[str, str], running_server: str) -> None:
    """One line, that names the variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {**settings, "TEMPORAL_ADDRESS": running_server, "WORKER_HEALTH_ADDRESS": where}
        code, _, err = await run(environment)
    assert code == 1
    assert "WORKER_HEALTH_ADDRESS" in err.splitlines()[-1]


async def test_metrics(settings: dict[str, str], running_server: str) -> None:
    """Prometheus finds the SDK's metrics, and those of keyed calls by how they were answered."""
    settings["WORKER_METRICS_ADDRESS"] = where = address()
    async with worker(settings, running_server):
        await result_of(await welcome(running_server, settings))
        await result_of(await welcome(running_server, settings))
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{where}/metrics")).text
    counted = [line for line in text.splitlines() if line.startswith("dedupe_calls")]
    assert any('answer="executed"' in line and line.endswith(" 1") for line in counted), text[-3_000:]
    assert any('answer="reused"' in line and line.endswith(" 1") for line in counted)
    assert "temporal_workflow_completed" in text
    assert "dedupe_call_latency" in text


async def test_logs_for_machines(settings: dict[str, str], running_server: str) -> None:
    """Each line is JSON; that of an answer has its key."""
    settings["WORKER_LOG_FORMAT"] = "json"
    async with worker(settings, running_server) as process:
        await result_of(await welcome(running_server, settings))
        line = json.loads(await line_with(process, "executed"))
    assert line["deduplication_key"] == "welcome-email-u1"
    assert (line["level"], line["answer"]) == ("INFO", "executed")
    assert line["time"]


async def test_a_process_for_the_keys(settings: dict[str, str], running_server: str) -> None:
    """One process serves the keys, another runs jobs and does not; both drain."""
    client = await Client.connect(running_server)
    jobs = {**settings, "WORKER_ROLE": "jobs"}
    keys = {**settings, "WORKER_ROLE": "keys"}
    async with worker(jobs, running_server) as of_jobs:
        assert (await result_of(await welcome(running_server, settings))).message_id
        async with worker(keys, running_server) as of_keys:

            async def is_served() -> bool:
                return await polls(of_keys, client, "dedupe")

            await until(is_served, what="a process that serves the keys")
            assert not await polls(of_jobs, client, "dedupe")
            of_keys.send_signal(signal.SIGTERM)
            await line_with(of_keys, "drained")
            assert await of_keys.wait() == 0


async def test_versions_are_given_together(settings: dict[str, str]) -> None:
    """Half of a deployment is one line."""
    process = await start({**settings, "WORKER_BUILD_ID": "7"})
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"deployment_name" in err


async def test_a_worker_of_a_version(settings: dict[str, str], running_server: str) -> None:
    """Once its version is the current one, it runs jobs, and their keyed calls with them."""
    settings["WORKER_DEPLOYMENT_NAME"] = name = f"shop-{settings['WORKER_ORGANIZATION']}"
    settings["WORKER_BUILD_ID"] = "build-7"
    client = await Client.connect(running_server)
    async with worker(settings, running_server):
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace="default", deployment_name=name, build_id="build-7", ignore_missing_task_queues=True
        )

        async def is_current() -> bool:
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
            except RPCError:  # its pollers have not arrived yet
                return False
            return True

        await until(is_current, what="the current version")
        job = await welcome(running_server, settings)
        assert (await result_of(job)).message_id
        described = (await job.describe()).raw_description.workflow_execution_info
        assert described.versioning_info.deployment_version.build_id == "build-7"
