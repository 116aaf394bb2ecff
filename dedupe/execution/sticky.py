"""Sticky: what an attempt after a lost one does first, so that nobody waits for the process that is gone.

The service keeps a workflow's next task for the process that has the workflow cached, as long as the sticky
time-out of its worker: ten seconds unless told otherwise. A process that died inside an activity had usually
cached the activity's job. So the attempt that follows a time-out has the job's tasks given to any worker.
Nothing depends on it: where it does not succeed, the job goes on later by those seconds.
"""

import asyncio
from datetime import timedelta

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, ResetStickyTaskQueueRequest
from temporalio.client import Client

_PATIENCE = timedelta(seconds=1)
"""How long the attempt is held up at the most; no longer than a part of its own time-outs, either."""
_PART = 5


async def unstick(client: Client, info: activity.Info) -> None:
    """Give the tasks of the running activity's job to any worker, if its last attempt was lost."""
    try:
        async with asyncio.timeout(_patience(info).total_seconds()):
            job = WorkflowExecution(workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or "")
            if await _was_lost(client, job, info.activity_id):
                await client.workflow_service.reset_sticky_task_queue(
                    ResetStickyTaskQueueRequest(namespace=client.namespace, execution=job)
                )
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the attempt
        activity.logger.debug("could not give the job's tasks to any worker: %r", error)


def _patience(info: activity.Info) -> timedelta:
    timeouts = (info.heartbeat_timeout, info.start_to_close_timeout)
    return min([_PATIENCE, *(timeout / _PART for timeout in timeouts if timeout)])


async def _was_lost(client: Client, job: WorkflowExecution, activity_id: str) -> bool:
    """Return whether the last attempt was never heard of again, and did not simply fail."""
    description = await client.workflow_service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=job)
    )
    return any(
        each.activity_id == activity_id and each.last_failure.HasField("timeout_failure_info")
        for each in description.pending_activities
    )
