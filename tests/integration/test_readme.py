"""The examples of the README and of the pages under `docs/` are files, and they run."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.processes import ROOT

BLOCK = re.compile(r"^```python\n# (?P<name>\w+\.py)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


START = "import runpy, time; runpy.run_path('start.py', run_name='__main__'); time.sleep(0.5)"
"""Runs `start.py`. A script that ends at once after its last answer now and then crashes inside the SDK as
the interpreter ends, with and without this package."""
PAGES = "\n".join(page.read_text() for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))])


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Return a folder with the Python files of all pages in it."""
    for block in BLOCK.finditer(PAGES):
        (tmp_path / block["name"]).write_text(block["code"])
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
        "patched.py",
        "run_worker.py",
        "serve_keys.py",
        "start.py",
        "test_welcome.py",
        "welcome.py",
    ]
    assert PAGES.count("```python") == len(list(examples.iterdir()))


async def test_two_jobs_share_one_execution(examples: Path, running_server: str) -> None:
    """The worker and the starter of the README print two equal results and one record."""
    async with running("run_worker.py", folder=examples, address=running_server):
        printed = await output_of("-c", START, folder=examples, address=running_server)
    assert "['message for user 42', 'message for user 42']" in printed
    assert "state=<KeyState.SUCCEEDED" in printed
    assert "generation=1" in printed


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
        printed = await output_of("-c", START, folder=examples, address=running_server)
    assert "['message for user 42', 'message for user 42']" in printed


async def test_the_example_test_passes(examples: Path) -> None:
    """The README's own test passes in the time-skipping environment."""
    printed = await output_of("-m", "pytest", "-q", "test_welcome.py", folder=examples)
    assert "1 passed" in printed


async def test_the_patched_job_takes_over_the_running_ones(examples: Path) -> None:
    """The patched job of the README does what the first did, under its name; in the README's own test."""
    test = examples / "test_welcome.py"
    test.write_text(
        test.read_text().replace(
            "from welcome import WelcomeJob, send_welcome",
            "from patched import PatchedWelcomeJob as WelcomeJob\nfrom welcome import send_welcome",
        )
    )
    printed = await output_of("-m", "pytest", "-q", "test_welcome.py", folder=examples)
    assert "1 passed" in printed
    code = "import patched; print(patched.PatchedWelcomeJob.__temporal_workflow_definition.name)"
    assert await output_of("-c", code, folder=examples) == "WelcomeJob\n"
