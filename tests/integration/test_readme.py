"""The examples of the README and of the pages under `docs/` are files, and they run."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowHandle

from tests.integration.processes import ROOT
from tests.support.histories import scheduled
from tests.support.pages import EXAMPLES, PAGES
from tests.support.waiting import until

TESTS = ("test_welcome.py", "test_welcome_time.py", "test_alarm.py", "test_sms.py")
PLAIN_JOB = """
from datetime import timedelta

from temporalio import workflow


@workflow.defn
class WelcomeJob:
    @workflow.run
    async def run(self, user_id: int) -> str:
        return await workflow.execute_activity(
            "send_welcome", user_id, result_type=str, start_to_close_timeout=timedelta(seconds=30)
        )
"""
"""The job before the migration."""


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Return a folder with the Python files of all pages in it."""
    for name, code in EXAMPLES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def environment(address: str | None = None) -> dict[str, str]:
    """Return what an example's process sees: the package, the test server's binary, and a service."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        **({} if address is None else {"TEMPORAL_ADDRESS": address}),
    }


async def output_of(*command: str, folder: Path, address: str | None = None) -> str:
    """Run a command to its end, and return what it printed.

    Raises:
        AssertionError: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env=environment(address), stdout=PIPE, stderr=STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


@asynccontextmanager
async def running(program: str, *, folder: Path, address: str) -> AsyncGenerator[None]:
    """Run a program of the README until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, cwd=folder, env=environment(address)
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def test_every_python_block_is_an_example(examples: Path) -> None:
    """No Python on a page goes untested: each block names its file, and all of them are known here."""
    assert sorted(path.name for path in examples.iterdir()) == [
        "alarm.py",
        "declared.py",
        "handler.py",
        "patched.py",
        "run_worker.py",
        "serve_keys.py",
        "sms.py",
        "start.py",
        "test_alarm.py",
        "test_sms.py",
        "test_welcome.py",
        "test_welcome_time.py",
        "tracing.py",
        "welcome.py",
    ]
    assert PAGES.count("```python") == len(list(examples.iterdir()))


async def test_two_jobs_share_one_execution(examples: Path, running_server: str) -> None:
    """The worker and the starter of the README print two equal results and one record."""
    async with running("run_worker.py", folder=examples, address=running_server):
        printed = await output_of("start.py", folder=examples, address=running_server)
    assert "['message for user 42', 'message for user 42']" in printed
    assert "state=<KeyState.SUCCEEDED" in printed
    assert "generation=1" in printed


async def test_a_handler_needs_no_job(examples: Path, running_server: str) -> None:
    """The web handler of the page on adopting gets the result, whoever executed."""
    async with running("run_worker.py", folder=examples, address=running_server):
        for _ in range(2):
            printed = await output_of("handler.py", folder=examples, address=running_server)
            assert "message for user 42" in printed
    await output_of("-c", "import declared", folder=examples)


async def test_keys_can_be_served_apart(examples: Path, running_server: str) -> None:
    """A worker with serve=False and the process that serves the keys answer the starter together."""
    worker = examples / "run_worker.py"
    worker.write_text(
        worker.read_text().replace('project="web"', 'project="apart", task_queue="keys-apart", serve=False')
    )
    server = examples / "serve_keys.py"
    server.write_text(server.read_text().replace('project="web"', 'project="apart", task_queue="keys-apart"'))
    start = examples / "start.py"
    start.write_text(start.read_text().replace('project="web"', 'project="apart"').replace("evt-", "apart-"))
    async with (
        running("run_worker.py", folder=examples, address=running_server),
        running("serve_keys.py", folder=examples, address=running_server),
    ):
        printed = await output_of("start.py", folder=examples, address=running_server)
    assert "['message for user 42', 'message for user 42']" in printed


async def test_the_example_tests_pass(examples: Path) -> None:
    """The tests of the README and of the page on testing pass, over and over."""
    for _ in range(3):
        printed = await output_of("-m", "pytest", "-q", *TESTS, folder=examples)
        assert "7 passed" in printed


async def test_the_example_tests_pass_for_the_patched_job(examples: Path) -> None:
    """The patched job does what the first one does, under its name."""
    for test in TESTS:
        path = examples / test
        path.write_text(
            path.read_text().replace(
                "from welcome import WelcomeJob, send_welcome",
                "from patched import PatchedWelcomeJob as WelcomeJob\nfrom welcome import send_welcome",
            )
        )
    printed = await output_of("-m", "pytest", "-q", *TESTS, folder=examples)
    assert "7 passed" in printed


async def test_a_job_in_flight_survives_the_migration(
    examples: Path, running_server: str, real_client: Client
) -> None:
    """A job that made a plain call before the migration ends with that call; new ones have the key."""
    queue = f"migration-{uuid4()}"
    worker = (
        (examples / "run_worker.py")
        .read_text()
        .replace('task_queue="jobs"', f'task_queue="{queue}"')
        .replace('project="web"', f'project="{queue}"')
    )
    (examples / "before.py").write_text(PLAIN_JOB)
    (examples / "before_worker.py").write_text(
        worker.replace(', plugins=[DedupePlugin(organization="acme", project="' + queue + '")]', "")
        .replace(
            "from dedupe import DedupePlugin\nfrom welcome import WelcomeJob, send_welcome",
            "from before import WelcomeJob",
        )
        .replace(", activities=[send_welcome]", "")
    )
    (examples / "after_worker.py").write_text(
        worker.replace(
            "from welcome import WelcomeJob, send_welcome",
            "from patched import PatchedWelcomeJob as WelcomeJob\nfrom welcome import send_welcome",
        )
    )
    async with running("before_worker.py", folder=examples, address=running_server):
        old = await real_client.start_workflow("WelcomeJob", 1, id=f"old-{queue}", task_queue=queue)
        await until(lambda: scheduled_in(old))
    async with running("after_worker.py", folder=examples, address=running_server):
        assert await asyncio.wait_for(old.result(), 30) == "message for user 1"
        new = await real_client.execute_workflow("WelcomeJob", 1, id=f"new-{queue}", task_queue=queue)
        assert new == "message for user 1"
    assert await scheduled_in(old) == ["send_welcome"]
    assert await scheduled_in(real_client.get_workflow_handle(f"new-{queue}")) == ["dedupe:send_welcome"]


async def scheduled_in(job: WorkflowHandle[Any, Any]) -> list[str]:
    """Return the activities that a job has scheduled."""
    return scheduled(await job.fetch_history())
