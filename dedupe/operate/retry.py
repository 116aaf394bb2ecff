"""Retry: what failed is executed again, with the arguments and options that the history of its call holds."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_never
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.service import RPCError

from dedupe.errors import KeyNotRetriedError
from dedupe.model.keys import Scope
from dedupe.model.messages import CallOrder, Plan
from dedupe.model.names import DELEGATED, ORDERED
from dedupe.model.outcome import Abandoned, Failed
from dedupe.model.payloads import cut, pack, pack_with
from dedupe.model.record import Absent, Executing, Execution, Held, Record, Settled
from dedupe.record.history import events_of, is_missing
from dedupe.record.reader import Reader


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """How an activity was called, as a history says."""

    scheduled: ActivityTaskScheduledEventAttributes
    arguments: list[Payload]
    """Out of the payload codec."""
    task_queue: str


def require_failed(record: Record, *, key: str) -> Execution:
    """Return the execution that failed, or that nobody has finished.

    Raises:
        KeyNotRetriedError: There is none.
    """
    if isinstance(record, Settled) and isinstance(record.outcome, Failed | Abandoned):
        return record.execution
    raise KeyNotRetriedError(key=key, reason=_why_not(record))


def _why_not(record: Record) -> str:
    match record:
        case Absent():
            return "nothing is recorded under it"
        case Executing():
            return "it is executing"
        case Held():
            return "it is held: resolve it"
        case Settled():
            return "it has succeeded"
        case _ as never:
            assert_never(never)


async def recorded_call(client: Client, execution: Execution, *, key_id: str, key: str) -> Recorded:
    """Return how the activity of an execution was called.

    Raises:
        KeyNotRetriedError: Its job's history is gone.
        RPCError: The service could not be asked.
        Exception: Whatever the payload codec raises.
    """
    owner = execution.owner
    workflow_id, run_id = (key_id, execution.run_id) if owner is None else (owner.workflow_id, owner.run_id)
    kind = DELEGATED if owner is None else owner.workflow_type
    try:
        async for event in events_of(client, workflow_id, run_id=run_id):
            if event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                continue
            scheduled = event.activity_task_scheduled_event_attributes
            if owner is None or scheduled.activity_id == owner.activity_id:
                reader = Reader(client=client, key_id=workflow_id)
                arguments = await reader.arguments(scheduled, workflow_type=kind)
                queue = scheduled.task_queue.name if owner is None else owner.task_queue
                return Recorded(scheduled=scheduled, arguments=arguments, task_queue=queue)
    except RPCError as error:
        if not is_missing(error):
            raise
    raise KeyNotRetriedError(
        key=key, reason=f"the history of job {workflow_id!r} is gone, and its arguments with it"
    )


async def start_again(
    client: Client, recorded: Recorded, execution: Execution, *, key: str, scope: Scope, reason: str
) -> str:
    """Start a job that makes the call again, and return its workflow id.

    Raises:
        RPCError: The service did not take the request.
    """
    scheduled, start = recorded.scheduled, execution.start
    order = CallOrder(
        activity=start.activity,
        key=key,
        scope=scope,
        ttl=start.ttl,
        on_unknown="hold" if start.hold else None,
        plan=Plan(
            task_queue=recorded.task_queue,
            schedule_to_close_timeout=_time(scheduled, "schedule_to_close_timeout"),
            schedule_to_start_timeout=_time(scheduled, "schedule_to_start_timeout"),
            start_to_close_timeout=_time(scheduled, "start_to_close_timeout"),
            heartbeat_timeout=_time(scheduled, "heartbeat_timeout"),
            retry_policy=RetryPolicy.from_proto(scheduled.retry_policy),
            summary=f"{start.activity} · {start.key}",
        ),
    )
    handle = await client.start_workflow(
        ORDERED,
        pack_with(order, pack(recorded.arguments).payload),
        id=f"dedupe-retry-{uuid4()}",
        task_queue=recorded.task_queue,
        static_summary=cut(f"retry{reason and ': '}{reason}"),
    )
    return handle.id


def _time(scheduled: Any, name: str) -> timedelta | None:
    duration: Duration = getattr(scheduled, name)
    return duration.ToTimedelta() or None
