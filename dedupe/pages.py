"""Pages: the events of a key's history that matter, and what they say. Pure, and without decoding.

The last close event of the real activity says how the key was settled, unless a later schedule event says
that it executes again. The key's workflow itself knows of it from the next workflow task on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionSignaledEventAttributes

from dedupe.messages import RERUN

_ENDED = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
}
_CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class Pages:
    """The events of one run that matter, last ones last. Built by `apply`, one event after the other."""

    last_id: int = 0
    workflow_type: str = ""
    started_at: datetime = _NEVER
    input: list[Payload] = field(default_factory=list[Payload])
    closed_by: "EventType.ValueType | None" = None
    scheduled: HistoryEvent | None = None
    """The last schedule of the real activity."""
    ended: HistoryEvent | None = None
    """Its close event."""
    noticed_at: datetime | None = None
    """When the key's workflow took notice of the close event."""
    expires_at: datetime | None = None
    rerun: list[Payload] = field(default_factory=list[Payload])
    """The last request to execute again."""
    _task_started_at: datetime | None = None

    def apply(self, event: HistoryEvent) -> None:
        """Read the next event."""
        self.last_id = event.event_id
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                started = event.workflow_execution_started_event_attributes
                self.workflow_type = started.workflow_type.name
                self.started_at = time_of(event)
                self.input = list(started.input.payloads)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                self.scheduled = event
                self.ended = self.noticed_at = self.expires_at = None
            case kind if kind in _ENDED:
                self.ended = event
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._task_started_at = time_of(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED if self.noticed_at is None:
                self.noticed_at = None if self.ended is None else self._task_started_at
            case EventType.EVENT_TYPE_TIMER_STARTED:
                timer = event.timer_started_event_attributes
                self.expires_at = time_of(event) + timer.start_to_fire_timeout.ToTimedelta()
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                self._read_signal(event.workflow_execution_signaled_event_attributes)
            case kind if kind in _CLOSED:
                self.closed_by = kind
            case _:
                pass

    def apply_last(self, events: Sequence[HistoryEvent]) -> None:
        """Read the last events, where some between them and those read before are missing.

        What the missing ones may have overruled counts no longer: every end but a success, and an end whose
        own schedule event is missing.
        """
        if self.ended is not None and self.ended.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            self.ended = self.noticed_at = None
        for event in events:
            if event.event_id > self.last_id:
                self.apply(event)
        if self.ended is not None and (
            self.scheduled is None or _scheduled_id(self.ended) != self.scheduled.event_id
        ):
            self.ended = self.noticed_at = None

    def _read_signal(self, signal: WorkflowExecutionSignaledEventAttributes) -> None:
        if signal.signal_name == RERUN:
            self.rerun = list(signal.input.payloads)


def _scheduled_id(ended: HistoryEvent) -> int:
    match ended.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            return ended.activity_task_completed_event_attributes.scheduled_event_id
        case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
            return ended.activity_task_failed_event_attributes.scheduled_event_id
        case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
            return ended.activity_task_timed_out_event_attributes.scheduled_event_id
        case _:
            return ended.activity_task_canceled_event_attributes.scheduled_event_id


def is_cancellation(ended: HistoryEvent) -> bool:
    """Return whether the activity was cancelled, which is no outcome."""
    failed = ended.activity_task_failed_event_attributes
    return ended.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED or failed.failure.HasField(
        "canceled_failure_info"
    )


def failure_of(ended: HistoryEvent, scheduled: HistoryEvent) -> Failure:
    """Return what the SDK makes of a failed or timed out activity, for a workflow to raise."""
    attributes = scheduled.activity_task_scheduled_event_attributes
    if ended.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
        timed_out = ended.activity_task_timed_out_event_attributes
        failure = Failure(message="Activity task timed out", cause=timed_out.failure)
        info = failure.activity_failure_info
        info.started_event_id = timed_out.started_event_id
        info.retry_state = timed_out.retry_state
    else:
        failed = ended.activity_task_failed_event_attributes
        failure = Failure(message="Activity task failed", cause=failed.failure)
        info = failure.activity_failure_info
        info.started_event_id = failed.started_event_id
        info.retry_state = failed.retry_state
        info.identity = failed.identity
    info.scheduled_event_id = scheduled.event_id
    info.activity_id = attributes.activity_id
    info.activity_type.CopyFrom(attributes.activity_type)
    return failure


def time_of(event: HistoryEvent) -> datetime:
    """Return the server time of an event."""
    return event.event_time.ToDatetime(tzinfo=UTC)
