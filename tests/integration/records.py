"""What the service recorded: what a key's history says of its executions, and whether anything is stuck."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

_HARMLESS = {WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND}
"""A signal came while the workflow was about to close: the task is done again, with the signal."""


@dataclass(frozen=True, kw_only=True)
class KeyHistory:
    """The current run of a key's workflow, counted."""

    executions: int
    """How often the real activity was scheduled."""
    successes: int
    """How often it was recorded as completed."""
    signals: int
    """How many claims said that they wait."""
    events: int


async def key_history(client: Client, workflow_id: str) -> KeyHistory:
    """Count the events of a key's workflow, in all runs of the key's life. An unclaimed key has none."""
    kinds: Counter[int] = Counter()
    run_id: str | None = None
    while run_id != "":
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            async for event in handle.fetch_history_events():
                kinds[event.event_type] += 1
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                    run_id = event.workflow_execution_started_event_attributes.continued_execution_run_id
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            break
    return KeyHistory(
        executions=kinds[EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED],
        successes=kinds[EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED],
        signals=kinds[EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED],
        events=kinds.total(),
    )


async def types_scheduled(client: Client, workflow_id: str) -> list[str]:
    """Return the types of the activities that a workflow's history holds, local ones (markers) apart."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


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
