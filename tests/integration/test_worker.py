"""`python worker.py` as a process: what it says, and how it ends."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

import worker as worker_command
from activities.worker_settings import Settings, load_settings
from tests.fakes.resend_server import API_KEY, ResendServer
from tests.integration.processes import ROOT
from worker import main
from workflows.onboarding import Onboarded, OnboardingJob
from workflows.user import User

ENDS_WITHIN = 30


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """An environment in which a worker would start, if there were a service."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "WORKER_"))
    }
    return {
        **kept,
        "XDG_CONFIG_HOME": str(tmp_path),
        "WORKER_ORGANIZATION": f"org-{uuid4().hex[:12]}",
        "WORKER_PROJECT": "web",
        "WORKER_TASK_QUEUE": f"jobs-{uuid4()}",
        "WORKER_EMAIL__DIRECTORY": str(tmp_path / "outbox"),
        "WORKER_PAYMENTS__PATH": str(tmp_path / "ledger.sqlite3"),
        "WORKER_CONNECT_TIMEOUT": "PT2S",
    }


@pytest.fixture
def resend(tmp_path: Path, settings: dict[str, str]) -> Iterator[ResendServer]:
    """A local Resend, through which the worker sends."""
    with ResendServer(ledger=tmp_path / "resend.sqlite3", api_key=API_KEY) as server:
        del settings["WORKER_EMAIL__DIRECTORY"]
        settings["WORKER_EMAIL__TRANSPORT"] = "resend"
        settings["WORKER_EMAIL__API_KEY"] = API_KEY
        settings["WORKER_EMAIL__SENDER"] = "hello@acme.example"
        settings["WORKER_EMAIL__BASE_URL"] = server.url
        yield server


async def run(environment: dict[str, str], *arguments: str) -> tuple[int | None, str, str]:
    """Run the command to its end and return its exit code and what it said."""
    process = await start(environment, *arguments)
    async with asyncio.timeout(ENDS_WITHIN):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def start(environment: dict[str, str], *arguments: str) -> Process:
    """Start the command."""
    return await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "worker.py"), *arguments, env=environment, stdout=PIPE, stderr=PIPE
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
        await line_with(process, " up: ")
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


async def test_help_lists_commands_and_variables(settings: dict[str, str]) -> None:
    """`--help` needs no settings and no service, and names every command and variable."""
    code, out, err = await run({**settings, "WORKER_ORGANIZATION": ""}, "--help")
    assert (code, err) == (0, "")
    for field in Settings.model_fields:
        assert f"WORKER_{field.upper()}" in out
    for words in ("demo", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE"):
        assert words in out


async def test_no_service_is_one_line(settings: dict[str, str]) -> None:
    """Where nobody listens, the worker says so in one line, and does not start."""
    code, out, err = await run({**settings, "TEMPORAL_ADDRESS": "127.0.0.1:1"})
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no connection to Temporal, namespace 'default' at 127.0.0.1:1" in err


async def test_a_service_that_is_silent_is_one_line(settings: dict[str, str]) -> None:
    """Where somebody listens and never answers, the worker gives up in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, _, err = await run({**settings, "TEMPORAL_ADDRESS": address})
    assert code == 1
    assert err.count("\n") == 1
    assert f"no answer from Temporal, namespace 'default' at {address}, within 0:00:02" in err


async def test_an_unknown_namespace_is_one_line(settings: dict[str, str], running_server: str) -> None:
    """A service that answers, but knows no such namespace, is no place to start either."""
    code, _, err = await run(
        {**settings, "TEMPORAL_ADDRESS": running_server, "TEMPORAL_NAMESPACE": "nowhere"}
    )
    assert code == 1
    assert err.count("\n") == 1
    assert "Create the namespace, or set TEMPORAL_NAMESPACE" in err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WORKER_PROJECT", "", "WORKER_PROJECT is empty"),
        ("WORKER_EMAIL__DIRECTORY", "/dev/null/outbox", "WORKER_EMAIL__DIRECTORY"),
        ("WORKER_PAYMENTS__PATH", "/dev/null/ledger", "WORKER_PAYMENTS__PATH"),
        ("TEMPORAL_PROFILE", "nowhere", "'nowhere' not found"),
        ("TEMPORAL_ADDRESS", "no address", "no connection to Temporal"),
    ],
)
def test_bad_settings_are_one_line(
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    said: str,
) -> None:
    """Whatever is set wrongly is said in one line on stderr, with an exit code that is not zero."""
    for name in {*os.environ, *settings, variable}:
        if name.startswith(("TEMPORAL_", "WORKER_", "XDG_")):
            monkeypatch.delenv(name, raising=False)
    for name, set_to in {**settings, variable: value}.items():
        if name.startswith(("TEMPORAL_", "WORKER_", "XDG_")):
            monkeypatch.setenv(name, set_to)
    assert main([]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_drains(
    settings: dict[str, str], resend: ResendServer, running_server: str, told: signal.Signals
) -> None:
    """Told to stop, a worker lets its running activity end and be recorded; another finishes the job."""
    async with worker(settings, running_server) as process:
        job = await welcome(running_server, settings)
        with resend.paused():
            await asyncio.to_thread(resend.arrived.acquire, timeout=ENDS_WITHIN)
            process.send_signal(told)
            await line_with(process, f"{told.name}: draining")
            assert process.returncode is None
        await line_with(process, "drained")
        async with asyncio.timeout(ENDS_WITHIN):
            assert await process.wait() == 0
    async with worker(settings, running_server), asyncio.timeout(ENDS_WITHIN):
        result = await job.result()
    (effect,) = resend.effects
    assert effect.content["id"] == result.message_id
    assert len(resend.requests) == 1


async def test_a_worker_that_cannot_drain_leaves(
    settings: dict[str, str],
    running_server: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that something keeps from stopping ends all the same, with an error."""
    stuck: list[Worker] = []

    async def hang(worker: Worker) -> None:
        stuck.append(worker)
        await asyncio.Event().wait()

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    told = asyncio.Event()
    told.set()
    monkeypatch.setattr("dedupe.process._stop_signal", lambda: told)
    monkeypatch.setattr(Worker, "shutdown", hang)
    monkeypatch.setattr(os, "_exit", leave)
    for name, value in {**settings, "TEMPORAL_ADDRESS": running_server}.items():
        if name.startswith(("TEMPORAL_", "WORKER_")):
            monkeypatch.setenv(name, value)
    patience = timedelta(seconds=0.2)
    hurried = load_settings().model_copy(
        update={"graceful_shutdown_timeout": patience, "stop_timeout": patience}
    )
    with pytest.raises(SystemExit) as left:
        await worker_command.serve(hurried)
    assert left.value.code == 1
    assert "not drained within 0:00:00.4" in caplog.text
    monkeypatch.undo()
    await stuck[0].shutdown()


async def test_a_second_signal_ends_a_worker_at_once(
    settings: dict[str, str], resend: ResendServer, running_server: str
) -> None:
    """Who cannot wait for an activity says so again; the next worker makes the attempt good."""
    async with worker(settings, running_server) as process:
        job = await welcome(running_server, settings)
        with resend.paused():
            await asyncio.to_thread(resend.arrived.acquire, timeout=ENDS_WITHIN)
            process.send_signal(signal.SIGTERM)
            await line_with(process, "SIGTERM: draining")
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                assert await process.wait() == 128 + signal.SIGTERM
    async with worker(settings, running_server), asyncio.timeout(2 * ENDS_WITHIN):
        await job.result()
    assert len(resend.effects) == 1
