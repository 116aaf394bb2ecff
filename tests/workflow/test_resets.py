"""Jobs and keys whose workflow an operator has reset."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from dedupe import KeyState
from tests.support.ground import Ground
from tests.support.scripts import Call, returned
from tests.support.servers import DELETE_SOON, dev_server
from tests.support.waiting import until


async def _reset(client: Client, workflow_id: str, *, to_last_task: bool) -> WorkflowExecution:
    """Reset a workflow to its first or last task that was completed, and return the run that it was."""
    handle = client.get_workflow_handle(workflow_id)
    tasks = [
        event.event_id
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    run = WorkflowExecution(workflow_id=workflow_id, run_id=(await handle.describe()).run_id)
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=run,
            request_id=str(uuid4()),
            workflow_task_finish_event_id=tasks[-1 if to_last_task else 0],
        )
    )
    return run


async def _reset_job(ground: Ground, job: WorkflowHandle[Any, Any]) -> WorkflowHandle[Any, Any]:
    """Reset a job to its beginning."""
    await _reset(ground.client, job.id, to_last_task=False)
    again = ground.client.get_workflow_handle(job.id)
    ground.jobs.append(again)
    return again


async def test_a_caller_that_is_reset_gets_the_same_result(real: Ground) -> None:
    """A job reset to its beginning makes its calls again and gets what is recorded."""
    async with real.worker():
        assert await real.call(Call(argument="once")) == returned("once")
        job = real.jobs[-1]
        again = await _reset_job(real, job)
        assert (await again.result())[0][0]["value"] == "once"
        await real.assert_hit()
    assert real.effects.arguments == ["once"]


async def test_a_caller_that_is_reset_while_it_waits_joins_again(real: Ground) -> None:
    """A job reset while its call executes joins the execution again, and gets its result."""
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(argument="once"))
        await real.effects.seen(1)
        again = await _reset_job(real, job)
        await real.claiming(1, again)
        gate.set()
        assert (await again.result())[0][0]["value"] == "once"
    assert real.effects.arguments == ["once"]


@pytest.fixture(scope="module")
async def forgetful() -> AsyncIterator[Client]:
    """A client of a server that deletes runs soon."""
    async with dev_server(DELETE_SOON) as client:
        yield client


@pytest.mark.parametrize("failing", [False, True], ids=["succeeded", "failed"])
async def test_a_reset_key_keeps_its_record_when_its_first_run_is_deleted(
    forgetful: Client, *, failing: bool
) -> None:
    """The history of a reset workflow names the run that it began with; the record is read without that."""
    ground = Ground.on(forgetful, skips_time=False, in_place=False)
    if failing:
        ground.effects.then(ApplicationError("no", type="Refused", non_retryable=True))
    async with ground.worker():
        first = await ground.call(Call(skip_failure=True))
        await until(lambda: _is_idle(ground))
        await _delete(forgetful, await _reset(forgetful, ground.key_id(), to_last_task=True))
        await until(lambda: _is_idle(ground))
        assert await ground.state() is (KeyState.FAILED if failing else KeyState.SUCCEEDED)
        again = await ground.call(Call(skip_failure=True))
        assert (again.value, again.failed) == (first.value, first.failed)
        await ground.assert_hit()
        assert await ground.call(Call(argument="next")) == returned("next" if failing else "argument")
    await ground.close()


async def _is_idle(ground: Ground) -> bool:
    key_workflow = await ground.key_workflow().describe()
    return not key_workflow.raw_description.HasField("pending_workflow_task")


async def _delete(client: Client, run: WorkflowExecution) -> None:
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=run)
    )
    handle = client.get_workflow_handle(run.workflow_id, run_id=run.run_id)

    async def is_gone() -> bool:
        try:
            await handle.describe()
        except RPCError as error:
            return error.status == RPCStatusCode.NOT_FOUND
        return False

    await until(is_gone, what="the deletion")
