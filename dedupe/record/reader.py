"""The reader: from the events of a key's history to a `Run`, out of the payload codec."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext

from dedupe.errors import UnreadableRecordError
from dedupe.model.messages import Resolution, Start, UnknownOutcome
from dedupe.model.names import DELEGATED, FORGOTTEN, IN_PLACE, REPLACED
from dedupe.model.outcome import NO_RESULT, Failed, Outcome, Succeeded, decode_outcome, time_of_outcome
from dedupe.model.payloads import decode, unpack_with
from dedupe.model.record import Closed, End, Execution, Run, Unknown, unknown_after
from dedupe.record.events import Events, failure_of, is_activity_end, scheduled_id, time_of

_NOTHING = Start(key="", activity="", idempotency_key="")
"""Of a run that was started by hand."""
_IN_CLEAR = {b"json/plain", b"binary/null"}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How the records of one key are decoded."""

    client: Client
    """Whose payload codec the key is read with."""
    key_id: str
    """Id of the key's workflow."""

    async def run(self, events: Events, *, although_forgotten: bool = False) -> Run:
        """Return what the history of a run says.

        Args:
            events: The history.
            although_forgotten: Whether it says how a run ended that was forgotten since.

        Raises:
            UnreadableRecordError: The id is taken by something that is not a record.
            Exception: Whatever the payload codec raises for payloads that it cannot decode. A record that
                cannot be decoded is not passed over for a later one.
        """
        if events.workflow_type not in {IN_PLACE, DELEGATED}:
            raise UnreadableRecordError(
                key=self.key_id, reason=f"its id is taken by a workflow of type {events.workflow_type!r}"
            )
        closed = self._closed(events)
        try:
            start = await self._start(events)
        except ValueError:
            if not _is_by_hand(events):
                raise
            start, closed = _NOTHING, Closed.FORGOTTEN
        execution = Execution(
            run_id=events.run_id,
            start=start,
            started_at=events.started_at,
            is_open=closed is None,
            answered=events.answered,
        )
        if closed is Closed.FORGOTTEN and not (although_forgotten and start is not _NOTHING):
            return Run(execution=execution, closed=closed)
        ends = events.ends if start.hold else events.ends[:1]
        unknown = await self._unknown(events, execution)
        for event in ends:
            end = await self._end(event, events)
            later = unknown_after(execution, end.outcome, at=end.at) if is_activity_end(event) else None
            if later is not None:
                unknown = replace(later, event_id=event.event_id)
            elif not _may_follow(end.outcome, start) or (closed is not None and event is ends[-1]):
                return Run(execution=execution, end=end, closed=closed)
        return Run(execution=execution, unknown=unknown, closed=closed)

    async def _unknown(self, events: Events, execution: Execution) -> Unknown | None:
        """Return why the outcome of an execution in place is unknown; None where nobody said so."""
        said, since, event_id = execution.start.unknown, events.started_at, 1
        if events.unknown is not None:
            signal = events.unknown.workflow_execution_signaled_event_attributes
            [payload, *_] = await raw(self._converter, signal.input.payloads)
            said, since = decode(UnknownOutcome, payload), time_of(events.unknown)
            event_id = events.unknown.event_id
        if said is None:
            return None
        return Unknown(why=said.why, since=since, over_at=said.over_at, event_id=event_id)

    async def _start(self, events: Events) -> Start:
        [payload, *_] = await raw(self._converter, events.input)
        start, _ = unpack_with(Start, payload)
        return start

    def _closed(self, events: Events) -> Closed | None:
        match events.closed_by:
            case None:
                return None
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                return Closed.ITSELF
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
                marks = [payload.data for payload in events.termination]
                if marks == [FORGOTTEN.encode()]:
                    return Closed.FORGOTTEN
                if marks == [REPLACED.encode()]:
                    return Closed.REPLACED
                return Closed.OUTSIDE
            case _:
                return Closed.OUTSIDE

    async def _end(self, end: HistoryEvent, events: Events) -> End:
        at = time_of(end)
        if end.HasField("workflow_execution_signaled_event_attributes"):
            signal = end.workflow_execution_signaled_event_attributes
            [payload, *notes] = await raw(self._converter, signal.input.payloads)
            reasons = [decode(Resolution, note).reason for note in notes]
            return End(
                outcome=decode_outcome(payload),
                at=max(at, time_of_outcome(payload) or at),
                resolution=": ".join(filter(None, [signal.identity, *reasons])) if notes else None,
                recorded_by=signal.identity or None,
            )
        scheduled = events.scheduled[scheduled_id(end)]
        return End(outcome=await self.activity_outcome(end, scheduled, workflow_type=DELEGATED), at=at)

    async def activity_outcome(
        self, end: HistoryEvent, scheduled: HistoryEvent, *, workflow_type: str
    ) -> Outcome:
        """Return how an activity ended, that a workflow with this reader's id scheduled."""
        converter = self._activity_converter(
            scheduled.activity_task_scheduled_event_attributes, workflow_type=workflow_type
        )
        if end.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            results = end.activity_task_completed_event_attributes.result.payloads
            decoded = await raw(converter, results)
            return Succeeded(decoded[0] if decoded else NO_RESULT)
        failure = failure_of(end, scheduled)
        await converter.decode_failure(failure)  # out of the codec, in place
        return Failed(failure)

    async def arguments(
        self, scheduled: ActivityTaskScheduledEventAttributes, *, workflow_type: str
    ) -> list[Payload]:
        """Return the arguments of an activity that a workflow with this reader's id scheduled."""
        return await self.decoded(scheduled, scheduled.input.payloads, workflow_type=workflow_type)

    async def decoded(
        self,
        scheduled: ActivityTaskScheduledEventAttributes,
        payloads: Sequence[Payload],
        *,
        workflow_type: str,
    ) -> list[Payload]:
        """Return payloads of such an activity out of the codec."""
        return await raw(self._activity_converter(scheduled, workflow_type=workflow_type), payloads)

    @property
    def _converter(self) -> DataConverter:
        return self.client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self.client.namespace, workflow_id=self.key_id)
        )

    def _activity_converter(
        self, scheduled: ActivityTaskScheduledEventAttributes, *, workflow_type: str
    ) -> DataConverter:
        return self.client.data_converter.with_context(
            ActivitySerializationContext(
                namespace=self.client.namespace,
                workflow_id=self.key_id,
                workflow_type=workflow_type,
                activity_id=scheduled.activity_id,
                activity_type=scheduled.activity_type.name,
                activity_task_queue=scheduled.task_queue.name,
                is_local=False,
            )
        )


def _may_follow(outcome: Outcome, start: Start) -> bool:
    """Return whether a failure is that of one attempt, after which the key's workflow makes another."""
    return isinstance(outcome, Failed) and start.hold and start.closes_when_settled


def _is_by_hand(events: Events) -> bool:
    """Return whether a run has failed at once, since somebody else started it, and so held nothing.

    What a payload codec made is another matter: it may be a start that this reader cannot decode.
    """
    encodings = {payload.metadata.get("encoding", b"") for payload in events.input[:1]}
    return events.closed_by == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED and encodings <= _IN_CLEAR


async def raw(converter: DataConverter, payloads: Sequence[Payload]) -> list[Payload]:
    """Return payloads out of the codec, unconverted."""
    values = await converter.decode(payloads, [RawValue] * len(payloads))
    return [value.payload for value in values]
