"""Processes that a benchmark starts: until they are ready, what they use, and their end."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

READY = "ready"
"""What a worker prints when it serves its queues."""

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_START = 60.0
_STOP = 15.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """A process, seen from outside. Its figures are read from /proc: where there is none they are 0."""

    process: Process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) * _TICK

    async def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Ask it to end; end it if it does not."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP):
                await self.process.wait()
        except TimeoutError:
            await self.kill()


async def start_worker(module: str, *arguments: str, log: Path) -> Running:
    """Start one of this package's modules as a worker, and wait until it is ready.

    Raises:
        RuntimeError: It ended, or was not ready in time.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdout=PIPE,
            stderr=output,
            stdin=DEVNULL,
            start_new_session=True,
        )
    running = Running(process=process)
    try:
        async with asyncio.timeout(_START):
            while process.stdout is not None and (line := await process.stdout.readline()):
                if line.decode().strip() == READY:
                    return running
    except TimeoutError:
        pass
    await running.kill()
    message = f"{module} did not get ready; {log} says why"
    raise RuntimeError(message)


@asynccontextmanager
async def started(command: Sequence[str], *, log: Path) -> AsyncGenerator[Running]:
    """Run a server until the block ends, with its output in a file."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, stdin=DEVNULL, start_new_session=True
        )
    running = Running(process=process)
    try:
        yield running
    finally:
        await running.stop()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def others(own: float, since: tuple[float, float]) -> float:
    """Return how many cores other people's processes kept busy.

    Args:
        own: CPU seconds that our own processes have used meanwhile.
        since: What `machine` returned at the beginning.
    """
    busy, total = machine()
    cores = os.cpu_count() or 1
    wall = (total - since[1]) / cores
    return max(0.0, (busy - since[0] - own) / wall) if wall else 0.0


def machine() -> tuple[float, float]:
    """Return the CPU seconds that the machine has used, and those that it had; 0 where unknown."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0, 0.0
    total = sum(fields)
    return (total - fields[3] - fields[4]) * _TICK, total * _TICK
