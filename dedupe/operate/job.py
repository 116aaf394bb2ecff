"""A job from outside: which calls with a key it has made, and how each was answered, as its history says."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client
from temporalio.converter import WorkflowSerializationContext

from dedupe.key.attempts import of_pending
from dedupe.model.answer import FailedAnswer, call_of, decode_answer
from dedupe.model.messages import Claim, Order
from dedupe.model.names import CLAIM, MARK, PEEK, TWIN
from dedupe.model.outcome import Failed, Succeeded
from dedupe.model.payloads import decode, is_referral, unpack, unpack_with
from dedupe.record.events import is_activity_end, scheduled_id, time_of
from dedupe.record.history import describe, events_of
from dedupe.record.reader import Reader, raw


@dataclass(frozen=True, kw_only=True)
class JobCall:
    """A call with a key that a job has made, as far as its history tells."""

    key_workflow_id: str
    activity: str
    answer: str
    """executed, joined, reused or failed; pending where it has none yet."""
    at: datetime
    """When it had its answer, or was last on its way."""
    detail: str | None = None
    """Why it failed, or what it waits for."""
    executed_by: str | None = None
    """Workflow id of the job whose call executed the activity; None where it was this call, or it is not
    known."""


async def calls_of(client: Client, workflow_id: str, *, run_id: str = "") -> AsyncIterator[JobCall]:
    """Yield the calls of one run of a job, in the order of their answers; then those that have none yet.

    Args:
        client: Of the job's namespace, with its data converter.
        workflow_id: Of the job.
        run_id: Of the run; the current one by default.

    Raises:
        RPCError: The service could not be asked, or knows no such job.
        Exception: Whatever the payload codec raises.
    """
    job = _Job(client, workflow_id)
    async for event in events_of(client, workflow_id, run_id=run_id):
        for call in await job.read(event):
            yield call
    found = await describe(client, workflow_id, run_id=run_id)
    if found is None:
        return
    for pending in found.pending_activities:
        if (waiting := await job.pending(pending)) is not None:
            yield waiting


@dataclass(frozen=True, kw_only=True)
class _Scheduled:
    """An activity of a call that is on its way."""

    event: HistoryEvent
    key_workflow_id: str
    activity: str
    hold: bool = False
    """Whether the call goes on where it ends without an answer."""


class _Job:
    def __init__(self, client: Client, workflow_id: str) -> None:
        self._client = client
        self._reader = Reader(client=client, key_id=workflow_id)
        self._converter = client.data_converter.with_context(
            WorkflowSerializationContext(namespace=client.namespace, workflow_id=workflow_id)
        )
        self._type = ""
        self._scheduled: dict[int, _Scheduled] = {}

    async def read(self, event: HistoryEvent) -> list[JobCall]:
        """Return the calls that an event answers."""
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            self._type = event.workflow_execution_started_event_attributes.workflow_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = await self._about(event)
            if scheduled is not None:
                self._scheduled[event.event_id] = scheduled
        elif event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            return await self._answered_by_peek(event)
        elif is_activity_end(event) and scheduled_id(event) in self._scheduled:
            return await self._ended(self._scheduled.pop(scheduled_id(event)), event)
        return []

    async def pending(self, pending: PendingActivityInfo) -> JobCall | None:
        """Return the call of an activity that the service lists as pending; None where it is another's."""
        for scheduled in self._scheduled.values():
            event = scheduled.event
            if event.activity_task_scheduled_event_attributes.activity_id == pending.activity_id:
                attempts = of_pending(pending, task_queue="")
                story = await self._story(pending, event)
                return JobCall(
                    key_workflow_id=scheduled.key_workflow_id,
                    activity=scheduled.activity,
                    answer="pending",
                    at=time_of(event),
                    detail=story or attempts.last_failure or attempts.in_words(now=time_of(event)),
                )
        return None

    async def _story(self, pending: PendingActivityInfo, event: HistoryEvent) -> str | None:
        """Return what a claim says it waits for, in its heartbeats."""
        if pending.activity_type.name != CLAIM or not pending.heartbeat_details.payloads:
            return None
        attributes = event.activity_task_scheduled_event_attributes
        [told, *_] = await self._reader.decoded(
            attributes, pending.heartbeat_details.payloads, workflow_type=self._type
        )
        return str(json.loads(told.data)) or None

    async def _about(self, event: HistoryEvent) -> _Scheduled | None:
        attributes = event.activity_task_scheduled_event_attributes
        name = attributes.activity_type.name
        if name == CLAIM:
            arguments = await self._reader.arguments(attributes, workflow_type=self._type)
            claim, _ = unpack_with(Claim, arguments[0])
            question = claim.question
            return _Scheduled(
                event=event,
                key_workflow_id=question.key_id,
                activity=question.activity,
            )
        header = attributes.header.fields.get(MARK)
        if not name.startswith(TWIN) or header is None:
            return None
        if MARK not in header.metadata:
            [header] = await raw(self._converter, [header])
        order = decode(Order, header)
        activity = name.removeprefix(TWIN)
        return _Scheduled(event=event, key_workflow_id=order.key_id, activity=activity, hold=order.hold)

    async def _answered_by_peek(self, event: HistoryEvent) -> list[JobCall]:
        details = event.marker_recorded_event_attributes.details
        if "data" not in details or "result" not in details:
            return []
        [data] = await raw(self._converter, details["data"].payloads)
        if json.loads(data.data).get("activity_type") != PEEK:
            return []
        [result, *_] = await raw(self._converter, details["result"].payloads)
        answers = [payload for payload in unpack(result) if not is_referral(payload)]
        return [
            _call(payload, key_workflow_id=key_id, activity=activity, at=time_of(event))
            for payload in answers
            for activity, key_id in [call_of(payload)]
        ]

    async def _ended(self, scheduled: _Scheduled, event: HistoryEvent) -> list[JobCall]:
        outcome = await self._reader.activity_outcome(event, scheduled.event, workflow_type=self._type)
        about = {"key_workflow_id": scheduled.key_workflow_id, "activity": scheduled.activity}
        if isinstance(outcome, Failed):
            if scheduled.hold and not outcome.is_answer:
                return []  # the call goes on, and waits
            detail = outcome.failure.cause.message
            return [JobCall(**about, answer="failed", at=time_of(event), detail=detail)]
        if not isinstance(outcome, Succeeded):
            return []
        return [
            _call(payload, **about, at=time_of(event))
            for payload in unpack(outcome.result)
            if not is_referral(payload)
        ]


def _call(payload: Payload, *, key_workflow_id: str, activity: str, at: datetime) -> JobCall:
    about = {"key_workflow_id": key_workflow_id, "activity": activity}
    answer = decode_answer(payload)
    if answer is None:  # it was not recorded by the attempt itself, but by the job
        return JobCall(**about, answer="executed", at=at)
    executed_by = None if answer.executor is None else answer.executor.job_id
    if isinstance(answer, FailedAnswer):
        detail = answer.failure.cause.message
        return JobCall(**about, answer="failed", at=at, detail=detail, executed_by=executed_by)
    return JobCall(**about, answer=answer.how.value, at=at, executed_by=executed_by)
