"""Events: what the history of one run of a key's workflow says, before anything is decoded. Pure.

The history is the record, so a reader needs no worker's help and no cache. In place the outcome is a signal;
delegated it is the close event of the activity that the key's workflow has. The first of either counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from dedupe.model.names import ANSWERED, OUTCOME, UNKNOWN

_NEVER = datetime.min.replace(tzinfo=UTC)
_ACTIVITY_ENDS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
}


@dataclass
class Events:
    """The events of one run that matter. Built by `apply`, one event after the other."""

    workflow_type: str = ""
    run_id: str = ""
    started_at: datetime = _NEVER
    input: list[Payload] = field(default_factory=list[Payload])
    ends: list[HistoryEvent] = field(default_factory=list[HistoryEvent])
    """The events that say how the execution ended."""
    unknown: HistoryEvent | None = None
    """The first one that says that nobody knows."""
    answered: int = 0
    """Attempts that have failed and said so."""
    scheduled: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    """Schedules of activities, by their event ids."""
    closed_by: "EventType.ValueType | None" = None
    termination: list[Payload] = field(default_factory=list[Payload])
    """Details of the termination."""

    @property
    def end(self) -> HistoryEvent | None:
        """The first event that says how the execution ended."""
        return self.ends[0] if self.ends else None

    def say_more(self, *, than: int) -> bool:
        """Return whether they say how the execution ended, or the run, after one event."""
        news = [*self.ends[-1:], *([] if self.unknown is None else [self.unknown])]
        return self.closed_by is not None or any(event.event_id > than for event in news)

    def apply(self, event: HistoryEvent) -> None:
        """Read the next event."""
        read = _READERS.get(event.event_type)
        if read is not None:
            read(self, event)


def _read_start(events: Events, event: HistoryEvent) -> None:
    started = event.workflow_execution_started_event_attributes
    events.workflow_type = started.workflow_type.name
    events.run_id = started.original_execution_run_id
    events.started_at = time_of(event)
    events.input = list(started.input.payloads)


def _read_task_failure(events: Events, event: HistoryEvent) -> None:
    # A reset keeps the first event, with the id of the run that it was written for.
    events.run_id = event.workflow_task_failed_event_attributes.new_run_id or events.run_id


def _read_signal(events: Events, event: HistoryEvent) -> None:
    name = event.workflow_execution_signaled_event_attributes.signal_name
    if name == OUTCOME:
        events.ends.append(event)
    elif name == UNKNOWN:
        events.unknown = events.unknown or event
    elif name == ANSWERED:
        events.answered += 1


def _read_schedule(events: Events, event: HistoryEvent) -> None:
    events.scheduled[event.event_id] = event


def _read_activity_end(events: Events, event: HistoryEvent) -> None:
    events.ends.append(event)


def _read_close(events: Events, event: HistoryEvent) -> None:
    events.closed_by = event.event_type
    events.termination = list(event.workflow_execution_terminated_event_attributes.details.payloads)


# A table and not a `match`: protobuf looks the name of an enum's value up at each use.
_READERS: dict[EventType.ValueType, Callable[[Events, HistoryEvent], None]] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: _read_start,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: _read_task_failure,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: _read_signal,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: _read_schedule,
    **dict.fromkeys(_ACTIVITY_ENDS, _read_activity_end),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: _read_close,
}


def is_activity_end(event: HistoryEvent) -> bool:
    """Return whether an event is the end of an activity."""
    return event.event_type in _ACTIVITY_ENDS


def scheduled_id(ended: HistoryEvent) -> int:
    """Return the id of the event that scheduled an activity, from the one that ended it."""
    match ended.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            return ended.activity_task_completed_event_attributes.scheduled_event_id
        case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
            return ended.activity_task_failed_event_attributes.scheduled_event_id
        case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
            return ended.activity_task_timed_out_event_attributes.scheduled_event_id
        case _:
            return ended.activity_task_canceled_event_attributes.scheduled_event_id


def failure_of(ended: HistoryEvent, scheduled: HistoryEvent) -> Failure:
    """Return what the SDK makes of an activity that failed, timed out or was cancelled."""
    attributes = scheduled.activity_task_scheduled_event_attributes
    match ended.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
            timed_out = ended.activity_task_timed_out_event_attributes
            failure = Failure(message="Activity task timed out", cause=timed_out.failure)
            info = failure.activity_failure_info
            info.started_event_id = timed_out.started_event_id
            info.retry_state = timed_out.retry_state
        case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
            canceled = ended.activity_task_canceled_event_attributes
            failure = Failure(message="Activity cancelled", cause=Failure(message="Cancelled"))
            failure.cause.canceled_failure_info.details.CopyFrom(canceled.details)
            info = failure.activity_failure_info
            info.started_event_id = canceled.started_event_id
            info.identity = canceled.identity
        case _:
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
