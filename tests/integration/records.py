"""What the service recorded: what a key's history says of its executions."""

from collections import Counter
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode


@dataclass(frozen=True, kw_only=True)
class KeyHistory:
    """The current run of a key's workflow, counted."""

    executions: int
    """How often the real activity was scheduled."""
    successes: int
    """How often it was recorded as completed."""
    signals: int
    """How many claims said that they wait."""
    lost_tasks: int
    """Workflow tasks that timed out."""
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
        lost_tasks=kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT],
        events=kinds.total(),
    )
