"""`python -m dedupe` against a real server."""

import asyncio
import json
import os
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

import dedupe


@activity.defn
async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@workflow.defn
class DoubleJob:
    """Doubles a number once per key."""

    @workflow.run
    async def run(self, key: str) -> int:
        """Return twice 21."""
        return await dedupe.execute_activity(
            double, 21, deduplication_key=key, start_to_close_timeout=timedelta(seconds=10)
        )


@asynccontextmanager
async def worker(client: Client) -> AsyncGenerator[None]:
    """Serve the job, and the keys."""
    plugin = dedupe.DedupePlugin(organization="acme", project="cli", task_queue="cli-keys")
    async with Worker(client, task_queue="cli", workflows=[DoubleJob], activities=[double], plugins=[plugin]):
        yield


async def command(address: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run the command line. Return exit status, stdout and stderr."""
    name, *rest = arguments
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dedupe", name, "--organization", "acme", "--project", "cli"),
        *("--task-queue", "cli-keys", *rest),
        env={**os.environ, "TEMPORAL_ADDRESS": address},
        stdout=PIPE,
        stderr=PIPE,
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_a_key_is_shown_listed_and_forgotten(running_server: str) -> None:
    """What a job recorded is printed as JSON, listed by prefix, and gone once it is forgotten."""
    client = await Client.connect(running_server)
    key = f"shown-{uuid.uuid4()}"
    async with worker(client):
        await client.execute_workflow(DoubleJob.run, key, id=f"job-{key}", task_queue="cli")

        status, shown, _ = await command(running_server, "get", key)
        assert status == 0
        record = json.loads(shown)
        assert (record["key"], record["state"], record["result_json"]) == (key, "succeeded", "42")
        assert record["started_by"] == f"job-{key}"

        listed = ""
        while not listed:  # visibility lags behind
            _, listed, _ = await command(running_server, "list", "--prefix", key[:12])
        assert json.loads(listed) == record

        assert (await command(running_server, "forget", key))[0] == 0
        status, _, said = await command(running_server, "get", key)
        assert (status, said) == (1, "nothing is recorded under this key\n")


async def test_what_is_wrong_is_said_in_a_line(running_server: str) -> None:
    """A key that is none, and a service that does not answer, end in one line and status 2."""
    status, _, said = await command(running_server, "get", "")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("dedupe: invalid deduplication key: it is empty")

    status, _, said = await command("127.0.0.1:1", "get", "any")
    assert (status, said.count("\n")) == (2, 1)
