"""Attempts: how an execution is getting on, as the service tells of its pending activity."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client

from dedupe.model.record import Execution
from dedupe.record.history import describe

_UNSERVED = timedelta(seconds=3)
"""After which a task that no worker has taken is worth a word."""


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

    def is_stuck(self, *, now: datetime) -> bool:
        """Return whether it could run, and no worker takes it."""
        return not self.is_running and (self.next_at is None or self.next_at + _UNSERVED <= now)

    def in_words(self, *, now: datetime) -> str:
        """Return the same for a person to read."""
        if self.is_running:
            words = f"attempt {self.number} runs on worker {self.worker}"
        elif self.next_at is not None and self.next_at > now:
            words = f"attempt {self.number} is due at {self.next_at:%H:%M:%S} UTC"
        elif self.is_stuck(now=now):
            words = f"attempt {self.number} waits for a worker of task queue {self.task_queue!r}"
        else:
            words = f"attempt {self.number} is on its way to a worker of task queue {self.task_queue!r}"
        return words if self.last_failure is None else f"{words}; the last one failed: {self.last_failure}"


async def attempts_of(client: Client, execution: Execution, *, key_id: str) -> Attempts | None:
    """Return the attempts of an execution; None where its activity is not pending.

    Raises:
        RPCError: The service could not be asked.
    """
    found = await _described(client, execution, key_id=key_id)
    return None if found is None else _attempts(found, execution)


@dataclass(frozen=True, kw_only=True)
class Story:
    """What those who wait for an execution are waiting for."""

    words: str
    """For a person to read."""
    is_stuck: bool = False
    """Whether somebody has to do something about it."""


async def story_of(client: Client, execution: Execution, *, key_id: str, now: datetime) -> Story:
    """Return what those who wait for an execution are waiting for.

    Raises:
        RPCError: The service could not be asked.
    """
    by = "" if execution.owner is None else f"job {execution.owner.workflow_id!r} executes it"
    found = await _described(client, execution, key_id=key_id)
    if found is None:
        return Story(words=by)
    attempts = _attempts(found, execution)
    task = found.pending_workflow_task
    if attempts is not None:
        words, is_stuck = attempts.in_words(now=now), attempts.is_stuck(now=now)
    elif (
        execution.owner is None
        and task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
        and task.original_scheduled_time.ToDatetime(tzinfo=UTC) + _UNSERVED <= now
    ):
        queue = found.execution_config.task_queue.name
        words = f"its workflow waits for a worker of task queue {queue!r}: does a process serve the keys?"
        is_stuck = True
    else:
        return Story(words=by)
    return Story(words=f"{by}: {words}" if by else words, is_stuck=is_stuck)


async def _described(
    client: Client, execution: Execution, *, key_id: str
) -> DescribeWorkflowExecutionResponse | None:
    """Describe the workflow that has the activity; None where the service knows it no more."""
    owner = execution.owner
    if owner is None:
        return await describe(client, key_id, run_id=execution.run_id)
    return await describe(client, owner.workflow_id, run_id=owner.run_id)


def _attempts(found: DescribeWorkflowExecutionResponse, execution: Execution) -> Attempts | None:
    owner = execution.owner
    for pending in found.pending_activities:
        if owner is None or pending.activity_id == owner.activity_id:
            queue = found.execution_config.task_queue.name if owner is None else owner.task_queue
            return of_pending(pending, task_queue=queue)
    return None


def of_pending(pending: PendingActivityInfo, *, task_queue: str) -> Attempts:
    """Return the attempts of an activity that the service lists as pending."""
    is_running = pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    next_at = pending.next_attempt_schedule_time if pending.HasField("next_attempt_schedule_time") else None
    if next_at is None and pending.HasField("scheduled_time") and not is_running:
        next_at = pending.scheduled_time
    return Attempts(
        number=pending.attempt,
        is_running=is_running,
        next_at=None if next_at is None else next_at.ToDatetime(tzinfo=UTC),
        worker=pending.last_worker_identity or None,
        task_queue=pending.activity_options.task_queue.name or task_queue,
        last_failure=pending.last_failure.message if pending.HasField("last_failure") else None,
    )
