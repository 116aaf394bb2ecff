"""Takeover: what the attempt after a lost one does first, for those who wait.

The service keeps a workflow's next task for the process that has the workflow cached, as long as the sticky
time-out of its worker: ten seconds unless told otherwise. A process that died inside an effect had mostly
cached the key's workflow, and jobs that wait for it. So the attempt that follows a time-out has their tasks
given to anybody. Nothing depends on it: what is not taken over comes later by those seconds.
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetStickyTaskQueueRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RawValue
from temporalio.converter import WorkflowSerializationContext
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from dedupe.messages import ATTACH, KEY_WORKFLOW, Attach, Start, Waiter, decode

_PATIENCE = timedelta(seconds=1)
"""How long the attempt is held up at the most; no longer than a part of its own time-outs, either."""
_PART = 5
_MOST_EVENTS = 250
"""Of the key's history; those who joined later wait for their sticky time-outs."""
_CONCURRENCY = 50
_ENDS = {EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED, EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT}


class TakeoverInterceptor(Interceptor):
    """Takes over before the activity of a key is attempted again. All other activities pass untouched."""

    def __init__(self, client: Client) -> None:
        """Create the interceptor for one worker, with its client: activities that block have none."""
        self._client = client

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See base class."""
        return _Inbound(next, self._client)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, client: Client) -> None:
        super().__init__(next)
        self._client = client

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if info.workflow_type == KEY_WORKFLOW and info.attempt > 1:
            try:
                async with asyncio.timeout(_patience(info).total_seconds()):
                    await _take_over(self._client, info)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the attempt
                activity.logger.debug("did not take over: %r", error)
        return await self.next.execute_activity(input)


def _patience(info: activity.Info) -> timedelta:
    timeouts = (info.heartbeat_timeout, info.start_to_close_timeout)
    return min([_PATIENCE, *(timeout / _PART for timeout in timeouts if timeout)])


async def _take_over(client: Client, info: activity.Info) -> None:
    key = client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    if not await _was_lost(key, info.activity_id):
        return
    slots = asyncio.Semaphore(_CONCURRENCY)

    async def give_away(workflow_id: str, run_id: str) -> None:
        async with slots:
            await client.workflow_service.reset_sticky_task_queue(
                ResetStickyTaskQueueRequest(
                    namespace=client.namespace,
                    execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                )
            )

    await give_away(key.id, key.run_id or "")
    jobs = {(waiter.workflow_id, waiter.run_id) for waiter in await _waiters(client, key)}
    await asyncio.gather(*(give_away(*job) for job in jobs), return_exceptions=True)  # some are closed by now


async def _was_lost(key: WorkflowHandle[Any, Any], activity_id: str) -> bool:
    """Return whether the last attempt was never heard of again, and did not simply fail."""
    description = await key.describe()
    return any(
        each.activity_id == activity_id and each.last_failure.HasField("timeout_failure_info")
        for each in description.raw_description.pending_activities
    )


async def _waiters(client: Client, key: WorkflowHandle[Any, Any]) -> list[Waiter]:
    """Return who waits for the key, as far as the beginning of its history tells."""
    history = key.fetch_history_events(page_size=_MOST_EVENTS)
    await history.fetch_next_page()
    converter = client.data_converter.with_context(
        WorkflowSerializationContext(namespace=client.namespace, workflow_id=key.id)
    )
    waiters: list[Waiter] = []
    for event in history.current_page or ():
        if event.event_type in _ENDS:
            waiters.clear()  # they have their answer
        try:
            if event.HasField("workflow_execution_started_event_attributes"):
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                [message] = await converter.decode(payloads[:1], [RawValue])
                waiters.extend(decode(Start, message.payload).waiters)
            elif event.workflow_execution_signaled_event_attributes.signal_name == ATTACH:
                payloads = event.workflow_execution_signaled_event_attributes.input.payloads
                [message] = await converter.decode(payloads[:1], [RawValue])
                waiters.append(decode(Attach, message.payload).waiter)
        except ValueError:  # sent by hand
            continue
    return waiters
