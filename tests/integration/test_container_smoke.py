"""The container and its faults do what the tests that use them count on."""

from collections.abc import Collection
from datetime import timedelta

import pytest
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from tests.integration.temporal_container import TemporalContainer

pytestmark = pytest.mark.docker

# A client first learns of the broken connection, then that no new one can be made.
GONE = (RPCStatusCode.UNKNOWN, RPCStatusCode.UNAVAILABLE)
# The deadline is kept by the client, which says one or the other.
SILENT = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


async def start_idle_workflow(client: Client) -> None:
    """Start a workflow that no worker takes: the server alone keeps it."""
    await client.start_workflow("Idle", id="idle", task_queue="nobody")


async def expect_running(client: Client) -> None:
    """The server knows the workflow and has it open."""
    description = await client.get_workflow_handle("idle").describe(rpc_timeout=timedelta(seconds=10))
    assert description.status is WorkflowExecutionStatus.RUNNING


async def expect_failure(client: Client, statuses: Collection[RPCStatusCode]) -> None:
    """A call fails with one of the statuses."""
    with pytest.raises(RPCError) as raised:
        await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=timedelta(seconds=1))
    assert raised.value.status in statuses


async def test_a_killed_server_comes_back_with_its_workflows(server: TemporalContainer) -> None:
    """After kill -9 and a restart the server answers at the same address and still knows its workflows."""
    client = await Client.connect(server.address)
    await start_idle_workflow(client)

    await server.kill()
    await expect_failure(client, GONE)
    await server.restart()

    await expect_running(client)
    await expect_running(await Client.connect(server.address))


async def test_a_paused_server_lets_calls_run_into_their_deadline(server: TemporalContainer) -> None:
    """A paused server answers nothing, and goes on where it was once it is unpaused."""
    client = await Client.connect(server.address)
    await start_idle_workflow(client)

    await server.pause()
    await expect_failure(client, SILENT)
    await server.unpause()

    await expect_running(client)


async def test_a_disconnected_server_is_reached_again_at_its_address(server: TemporalContainer) -> None:
    """A server off the network refuses calls, and is back at the same address when it is reconnected."""
    client = await Client.connect(server.address)
    await start_idle_workflow(client)

    await server.disconnect()
    await expect_failure(client, GONE)
    await server.reconnect()

    await expect_running(client)
