"""A Temporal dev server whose state outlives its process, to be killed and started again."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.integration.processes import Process
from tests.support.servers import binary, dynamic_configuration, free_port, is_up
from tests.support.waiting import until


class LastingServer:
    """A dev server as a process, with its state in a file."""

    def __init__(self, folder: Path, *, settings: Sequence[str] = ()) -> None:
        """Describe a server whose state lies in `folder`.

        Args:
            folder: Where its state and its log lie.
            settings: Dynamic configuration, as KEY=VALUE.
        """
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self._command = [
            binary("temporal"),
            "server",
            "start-dev",
            "--headless",
            "--ip=127.0.0.1",
            f"--port={port}",
            f"--db-filename={folder / 'temporal.db'}",
            "--log-level=error",
            *dynamic_configuration(*settings),
        ]
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it on the state that it left, and return when it answers."""
        self._process = Process(self._command, log=self._folder / "server.log")
        await until(lambda: is_up(self.address), every=timedelta(milliseconds=50), what="the server's start")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()


@asynccontextmanager
async def lasting_server(folder: Path, *settings: str) -> AsyncGenerator[LastingServer]:
    """A dev server that answers; it ends with the block."""
    server = LastingServer(folder, settings=settings)
    try:
        await server.start()
        yield server
    finally:
        server.kill()
