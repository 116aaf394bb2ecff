"""`python worker.py` as a process: what it says, and how it ends."""

import asyncio
import os
import signal
import socket
from datetime import timedelta
from typing import NoReturn

import pytest
from temporalio.worker import Worker

import worker as worker_command
from activities.worker_settings import Settings, load_settings
from tests.fakes.resend_server import ResendServer
from tests.integration.worker_command import ENDS_WITHIN, line_with, run, welcome, worker
from worker import main


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
