"""Attempts: what an execution that is under way is about, as the service tells of its pending activity."""

from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.model.record import Execution
from dedupe.record.history import is_missing


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The attempts of an execution that is under way."""

    number: int
    """Of the one that runs, or is to come next: 1 for the first."""
    is_running: bool
    """Whether a worker has it; if not, it waits: for its time, or for a worker."""
    next_at: datetime | None
    """When the next one is due; None: it runs, or may begin at once."""
    worker: str | None
    """Identity of the worker that had the last one; None: none had."""
    task_queue: str
    """Where it waits for a worker."""
    last_failure: str | None
    """Why the one before failed; None: there was none."""


async def attempts_of(client: Client, execution: Execution, *, key_id: str) -> Attempts | None:
    """Return the attempts of an execution; None where its activity is not pending.

    Raises:
        RPCError: The service could not be asked.
    """
    owner = execution.owner
    run = (
        WorkflowExecution(workflow_id=key_id, run_id=execution.run_id)
        if owner is None
        else WorkflowExecution(workflow_id=owner.workflow_id, run_id=owner.run_id)
    )
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=run)
    try:
        found = await client.workflow_service.describe_workflow_execution(request, retry=True)
    except RPCError as error:
        if is_missing(error):
            return None
        raise
    for pending in found.pending_activities:
        if owner is None or pending.activity_id == owner.activity_id:
            return _attempts(pending, task_queue=owner.task_queue if owner is not None else "")
    return None


def _attempts(pending: PendingActivityInfo, *, task_queue: str) -> Attempts:
    is_running = pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    next_at = pending.next_attempt_schedule_time if pending.HasField("next_attempt_schedule_time") else None
    if next_at is None and pending.HasField("scheduled_time") and not is_running:
        next_at = pending.scheduled_time
    due = None if next_at is None else next_at.ToDatetime(tzinfo=UTC)
    options = pending.activity_options
    return Attempts(
        number=pending.attempt,
        is_running=is_running,
        next_at=due,
        worker=pending.last_worker_identity or None,
        task_queue=options.task_queue.name or task_queue,
        last_failure=pending.last_failure.message if pending.HasField("last_failure") else None,
    )
