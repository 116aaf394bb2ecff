"""How jobs end: well, badly, or never."""

import asyncio
from collections.abc import Iterable
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

_HARMLESS = {WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND}
"""A signal came while the workflow was about to close: the task is done again, with the signal."""


async def end_of(handle: WorkflowHandle[Any, Any]) -> str:
    """Return how a job ended: its result, or its error's types and messages down to the first cause.

    "STUCK" for one that does not end: most likely its tasks fail for ever.
    """
    try:
        async with asyncio.timeout(60):
            return str(await handle.result())
    except WorkflowFailureError as error:
        causes: list[str] = []
        cause: BaseException | None = error.cause
        while cause is not None:
            kind = cause.type if isinstance(cause, ApplicationError) else type(cause).__name__
            causes.append(f"{kind}: {getattr(cause, 'message', cause)}")
            cause = cause.__cause__
        return " <- ".join(causes)
    except TimeoutError:
        return "STUCK"


async def stuck(client: Client, workflow_ids: Iterable[str]) -> list[str]:
    """Return what is wrong with workflows whose tasks have failed: a task that failed once fails for ever."""
    found: list[str] = []
    for workflow_id in workflow_ids:
        response = await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(
                namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
            )
        )
        if response.pending_workflow_task.attempt > 1:
            found.append(f"{workflow_id}: attempt {response.pending_workflow_task.attempt} of its task")
        async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
            failed = event.workflow_task_failed_event_attributes
            if (
                event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
                and failed.cause not in _HARMLESS
            ):
                found.append(f"{workflow_id}: {failed.failure.message or failed.cause}")
    return found


async def is_open(client: Client, workflow_id: str) -> bool:
    """Return whether a workflow is running."""
    description = await client.get_workflow_handle(workflow_id).describe()
    return description.status == WorkflowExecutionStatus.RUNNING
