"""Keys whose workflow an operator pauses: the service lets nothing of it run, and its status is a new one."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from temporalio.api.workflowservice.v1 import PauseWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.operate.view import KeyState
from tests.support.ground import Ground
from tests.support.scripts import Call, returned
from tests.support.servers import dev_server
from tests.support.waiting import until


@pytest.fixture
async def pausing() -> AsyncIterator[Client]:
    """A client of a server that can pause workflows."""
    async with dev_server("frontend.WorkflowPauseEnabled=true") as client:
        yield client


async def _pause(ground: Ground) -> None:
    await ground.server.workflow_service.pause_workflow_execution(
        PauseWorkflowExecutionRequest(
            namespace=ground.server.namespace,
            workflow_id=ground.key_id(),
            identity="operator",
            reason="to look at it",
            request_id=str(uuid4()),
        )
    )


async def test_a_paused_key_is_recorded_and_read_all_the_same(pausing: Client) -> None:
    """Jobs that wait get the result of an execution that was under way when its key was paused."""
    ground = Ground.on(pausing, skips_time=False, in_place=False)
    gate = ground.effects.close()
    async with ground.worker():
        jobs = [await ground.start_script(Call(argument="owner"))]
        await ground.effects.seen(1)
        jobs += [await ground.start_script(Call(argument="other")) for _ in range(3)]
        for job in jobs:
            await ground.claiming(1, job)
        await _pause(ground)
        assert await ground.state() is KeyState.EXECUTING
        gate.set()
        assert [await job.result() for job in jobs] == [[[returned("owner")]]] * 4
        assert await ground.call() == returned("owner")
    assert ground.effects.arguments == ["owner"]
    assert await ground.state() is KeyState.SUCCEEDED
    await _is_listed(ground)


async def test_a_key_in_place_cannot_be_paused(pausing: Client) -> None:
    """The service refuses, since the key's workflow has not begun to run; the key is as it was."""
    ground = Ground.on(pausing, skips_time=False)
    async with ground.worker():
        await ground.call(Call(argument="first"))
        with pytest.raises(RPCError):
            await _pause(ground)
        assert await ground.call() == returned("first")
    await _is_listed(ground)


async def _is_listed(ground: Ground) -> None:
    async def listed() -> list[str]:
        return [record.key async for record in ground.keys.list()]

    assert await until(listed, what="the listing of the key") == ["key"]
