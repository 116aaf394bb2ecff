"""`python worker.py` as a process, as tests run it."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.integration.processes import ROOT
from workflows.onboarding import Onboarded, OnboardingJob
from workflows.user import User

ENDS_WITHIN = 30


async def run(environment: dict[str, str], *arguments: str) -> tuple[int | None, str, str]:
    """Run the command to its end and return its exit code and what it said."""
    process = await start(environment, *arguments)
    async with asyncio.timeout(ENDS_WITHIN):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def start(environment: dict[str, str], *arguments: str) -> Process:
    """Start the command."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "worker.py"),
        *arguments,
        cwd=environment["XDG_CONFIG_HOME"],  # what it writes by default goes there
        env=environment,
        stdout=PIPE,
        stderr=PIPE,
    )


async def line_with(process: Process, words: str) -> str:
    """Read the log on, up to a line with these words."""
    assert process.stderr is not None
    async with asyncio.timeout(ENDS_WITHIN):
        async for line in process.stderr:
            if words in line.decode():
                return line.decode()
    raise AssertionError(f"the worker ended, and never said {words!r}")


@asynccontextmanager
async def worker(environment: dict[str, str], address: str) -> AsyncGenerator[Process]:
    """Run a worker that is up; it is killed at the end, if it is still there."""
    process = await start({**environment, "TEMPORAL_ADDRESS": address})
    try:
        await line_with(process, "up: ")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def welcome(address: str, settings: dict[str, str]) -> WorkflowHandle[OnboardingJob, Onboarded]:
    """Start a job for the worker."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    return await client.start_workflow(
        OnboardingJob.run,
        User(id="u1", name="Ada", email="ada@example.com"),
        id=f"job-{uuid4()}",
        task_queue=settings["WORKER_TASK_QUEUE"],
    )
