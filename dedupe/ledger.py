"""The ledger: reading a key's record out of its workflow's history.

The history is the record, so a reader needs no worker's help and no cache: the last close event of the real
activity says how it ended, unless a later schedule event says that it executes again. A success counts from
its event on. A failure counts from the first workflow task that was completed after it, since that is the
moment at which the key's workflow itself knows of it; so reader and workflow judge by the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from dedupe.decision import Executing, ExecutionRecord, Record, Settled, Unknown
from dedupe.execution import parse_activity_id
from dedupe.errors import UnreadableRecordError
from dedupe.keys import fingerprint
from dedupe.messages import KEY_WORKFLOW, Start, decode, unpack
from dedupe.outcome import Failed, Outcome, Succeeded, rolled_over

_CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}
_NULL = Payload(metadata={"encoding": b"binary/null"})


async def read(client: Client, key_id: str, *, with_fingerprint: bool = False) -> Record:
    """Return what is recorded under a key.

    Args:
        client: Whose namespace, and whose payload codec, the key is read with.
        key_id: Id of the key's workflow.
        with_fingerprint: Whether to fingerprint the recorded arguments.

    Raises:
        RPCError: The service could not be asked.
        UnreadableRecordError: The id is taken by something that is no record.
        Exception: Whatever the payload codec raises for payloads that it cannot decode.
    """
    events = client.get_workflow_handle(key_id).fetch_history_events()
    try:
        pages = Pages()
        async for event in events:
            pages.apply(event)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return Unknown()
        raise
    reader = _Reader(client=client, key_id=key_id, pages=pages, with_fingerprint=with_fingerprint)
    return await reader.record()


@dataclass
class Pages:
    """The events of one run that matter, last ones last. Built by `apply`, one event after the other."""

    workflow_type: str = ""
    started_at: datetime = datetime.fromtimestamp(0, UTC)
    input: list[Payload] = field(default_factory=list[Payload])
    closed_by: "EventType.ValueType | None" = None
    scheduled: HistoryEvent | None = None
    """The last schedule of the real activity."""
    ended: HistoryEvent | None = None
    """Its close event."""
    noticed_at: datetime | None = None
    """When the key's workflow took notice of the close event."""
    expires_at: datetime | None = None
    _task_started_at: datetime | None = None

    def apply(self, event: HistoryEvent) -> None:
        """Read the next event."""
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                started = event.workflow_execution_started_event_attributes
                self.workflow_type = started.workflow_type.name
                self.started_at = _time(event)
                self.input = list(started.input.payloads)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                self.scheduled = event
                self.ended = self.noticed_at = self.expires_at = None
            case (
                EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
                | EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
                | EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
                | EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED
            ):
                self.ended = event
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._task_started_at = _time(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                if self.ended is not None and self.noticed_at is None:
                    self.noticed_at = self._task_started_at
            case EventType.EVENT_TYPE_TIMER_STARTED:
                timer = event.timer_started_event_attributes
                self.expires_at = _time(event) + timer.start_to_fire_timeout.ToTimedelta()
            case kind if kind in _CLOSED:
                self.closed_by = kind
            case _:
                pass


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Decodes the pages of one run into a record."""

    client: Client
    key_id: str
    pages: Pages
    with_fingerprint: bool

    async def record(self) -> Record:
        pages = self.pages
        if pages.workflow_type != KEY_WORKFLOW:
            raise UnreadableRecordError(
                key=self.key_id, reason=f"its id is taken by a workflow of type {pages.workflow_type!r}"
            )
        if pages.closed_by is None and pages.scheduled is not None:
            return await self._record_of(pages.scheduled, ttl=None)
        start, content = await self._start()
        if start.forgotten:
            return Unknown()
        if pages.closed_by is not None:
            return await self._closed(start)
        if pages.scheduled is not None:
            return await self._record_of(pages.scheduled, ttl=None)
        return self._not_yet_scheduled(start, content)

    async def _closed(self, start: Start) -> Record:
        pages = self.pages
        if pages.scheduled is None:
            return Unknown(idempotency_key=start.idempotency_key)
        if start.closes_when_settled:
            record = await self._record_of(pages.scheduled, ttl=start.plan.ttl)
            if isinstance(record, Settled):
                return record
        was_cut_off = (
            pages.closed_by != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
            and self._outcome_event() is None
        )
        _, idempotency_key = parse_activity_id(_scheduled(pages.scheduled).activity_id)
        return Unknown(idempotency_key=idempotency_key if was_cut_off else None)

    def _not_yet_scheduled(self, start: Start, content: Payload) -> Record:
        execution = ExecutionRecord(
            activity=start.activity,
            generation=start.generation,
            idempotency_key=start.idempotency_key or "",
            fingerprint=self._fingerprint(unpack(content)) if start.rollover is None else start.rollover.fingerprint,
            started_at=self.pages.started_at if start.rollover is None else start.rollover.started_at,
        )
        if start.rollover is None:
            return Executing(execution=execution)
        return Settled(
            execution=execution,
            outcome=rolled_over(start.rollover, content),
            settled_at=start.rollover.settled_at,
            expires_at=start.rollover.expires_at,
        )

    async def _record_of(self, scheduled: HistoryEvent, *, ttl: timedelta | None) -> Record:
        pages = self.pages
        attributes = _scheduled(scheduled)
        generation, idempotency_key = parse_activity_id(attributes.activity_id)
        execution = ExecutionRecord(
            activity=attributes.activity_type.name,
            generation=generation,
            idempotency_key=idempotency_key,
            fingerprint=await self._fingerprint_of(attributes),
            started_at=_time(scheduled),
        )
        ended = self._outcome_event()
        if ended is None:
            return Executing(execution=execution)
        outcome = await self._outcome(ended, attributes)
        settled_at = pages.noticed_at
        if settled_at is None:
            if isinstance(outcome, Failed):
                return Executing(execution=execution)
            settled_at = _time(ended)
        return Settled(
            execution=execution,
            outcome=outcome,
            settled_at=settled_at,
            expires_at=pages.expires_at if ttl is None else settled_at + ttl,
        )

    def _outcome_event(self) -> HistoryEvent | None:
        """Return the event that settled the key; None where there is none, or a cancellation."""
        ended = self.pages.ended
        if ended is None or ended.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
            return None
        if ended.activity_task_failed_event_attributes.failure.HasField("canceled_failure_info"):
            return None
        return ended

    async def _outcome(self, ended: HistoryEvent, scheduled: ActivityTaskScheduledEventAttributes) -> Outcome:
        match ended.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                results = ended.activity_task_completed_event_attributes.result.payloads
                decoded = await _raw(self._activity_converter(scheduled), results)
                return Succeeded(decoded[0] if decoded else _NULL)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                timed_out = ended.activity_task_timed_out_event_attributes
                failure = Failure(message="Activity task timed out", cause=timed_out.failure)
                info = failure.activity_failure_info
                info.started_event_id = timed_out.started_event_id
                info.retry_state = timed_out.retry_state
            case _:
                failed = ended.activity_task_failed_event_attributes
                failure = Failure(message="Activity task failed", cause=failed.failure)
                info = failure.activity_failure_info
                info.started_event_id = failed.started_event_id
                info.retry_state = failed.retry_state
                info.identity = failed.identity
        info.scheduled_event_id = (self.pages.scheduled or ended).event_id
        info.activity_id = scheduled.activity_id
        info.activity_type.name = scheduled.activity_type.name
        await self._activity_converter(scheduled).decode_failure(failure)  # decodes in place
        return Failed(failure)

    async def _start(self) -> tuple[Start, Payload]:
        converter = self.client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self.client.namespace, workflow_id=self.key_id)
        )
        start, content = await _raw(converter, self.pages.input)
        return decode(Start, start), content

    async def _fingerprint_of(self, scheduled: ActivityTaskScheduledEventAttributes) -> str | None:
        if not self.with_fingerprint:
            return None
        return fingerprint(await _raw(self._activity_converter(scheduled), scheduled.input.payloads))

    def _fingerprint(self, arguments: Sequence[Payload]) -> str | None:
        return fingerprint(arguments) if self.with_fingerprint else None

    def _activity_converter(self, scheduled: ActivityTaskScheduledEventAttributes) -> DataConverter:
        return self.client.data_converter.with_context(
            ActivitySerializationContext(
                namespace=self.client.namespace,
                workflow_id=self.key_id,
                workflow_type=KEY_WORKFLOW,
                activity_id=scheduled.activity_id,
                activity_type=scheduled.activity_type.name,
                activity_task_queue=scheduled.task_queue.name,
                is_local=False,
            )
        )


async def _raw(converter: DataConverter, payloads: Sequence[Payload]) -> list[Payload]:
    """Return payloads out of the codec, unconverted."""
    values = await converter.decode(payloads, [RawValue] * len(payloads))
    return [value.payload for value in values]


def _scheduled(event: HistoryEvent) -> ActivityTaskScheduledEventAttributes:
    return event.activity_task_scheduled_event_attributes


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
