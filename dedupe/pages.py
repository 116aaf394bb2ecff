"""Pages: the events of a key's history that matter, and what they say. Pure, and without decoding.

The last close event of the real activity says how the key was settled, unless a later schedule event says
that it executes again. The key's workflow itself knows of it from the next workflow task on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo

from dedupe.messages import RERUN

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to execute again."""

    payloads: list[Payload]
    settled: HistoryEvent | None
    """The schedule of the execution that it found settled; None where an earlier run had scheduled that."""


@dataclass
class Pages:
    """The events of one run that matter, last ones last. Built by `apply`, one event after the other."""

    last_id: int = 0
    is_whole: bool = True
    """Whether no event is missing among those that were read, up to the last."""
    workflow_type: str = ""
    run_id: str = ""
    first_run_id: str = ""
    """Of this life of the key."""
    started_at: datetime = _NEVER
    input: list[Payload] = field(default_factory=list[Payload])
    closed_by: "EventType.ValueType | None" = None
    scheduled: HistoryEvent | None = None
    """The last schedule of the real activity."""
    scheduled_at: datetime = _NEVER
    """When the workflow task started that scheduled it, as the key's workflow knows it."""
    ended: HistoryEvent | None = None
    """Its close event."""
    noticed_at: datetime | None = None
    """When the key's workflow took notice of the close event."""
    reruns: list[Request] = field(default_factory=list[Request])
    """The requests to execute again that found the key settled; some are meant for another execution."""
    task_started_at: datetime | None = None
    """When the last workflow task started."""
    has_expired: bool = False
    """Whether the timer of the record has fired, though the key's workflow may not have come to it yet."""
    pending: PendingActivityInfo | None = None
    """The real activity, where the service was asked, and said, that it executes."""

    @property
    def has_succeeded(self) -> bool:
        """Whether an execution is known to have succeeded, after which none follows."""
        return (
            self.ended is not None and self.ended.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        )

    @property
    def knows_arguments(self) -> bool:
        """Whether the arguments of the last execution were among what was read."""
        if self.pending is None or self.scheduled is None:
            return self.pending is None
        scheduled = self.scheduled.activity_task_scheduled_event_attributes
        return scheduled.activity_id == self.pending.activity_id

    def apply(self, event: HistoryEvent) -> None:
        """Read the next event."""
        self.last_id = event.event_id
        read = _READERS.get(event.event_type)
        if read is not None:
            read(self, event)

    def apply_last(self, events: Sequence[HistoryEvent]) -> None:
        """Read the last events, where some between them and those read before may be missing.

        What missing ones may have overruled counts no longer: every end but a success, and an end whose own
        schedule event is missing.
        """
        if events and events[0].event_id <= self.last_id + 1:
            for event in events:
                if event.event_id > self.last_id:
                    self.apply(event)
            return
        self.is_whole = False
        if not self.has_succeeded:
            self.ended = self.noticed_at = None
        succeeded, noticed_at = self.ended, self.noticed_at
        for event in events:
            self.apply(event)
        if self.ended is None:
            return
        if self.ended is succeeded:
            self.noticed_at = noticed_at  # a task of the last events is not the first after it
        elif self.scheduled is None or _scheduled_id(self.ended) != self.scheduled.event_id:
            self.ended = self.noticed_at = None


def _read_start(pages: Pages, event: HistoryEvent) -> None:
    started = event.workflow_execution_started_event_attributes
    pages.workflow_type = started.workflow_type.name
    pages.run_id = started.original_execution_run_id
    pages.first_run_id = started.first_execution_run_id
    pages.started_at = time_of(event)
    pages.input = list(started.input.payloads)


def _read_schedule(pages: Pages, event: HistoryEvent) -> None:
    pages.scheduled = event
    pages.scheduled_at = pages.task_started_at or time_of(event)
    pages.ended = pages.noticed_at = None
    pages.has_expired = False


def _read_end(pages: Pages, event: HistoryEvent) -> None:
    pages.ended = event


def _read_task_start(pages: Pages, event: HistoryEvent) -> None:
    pages.task_started_at = time_of(event)


def _read_task_completion(pages: Pages, event: HistoryEvent) -> None:
    del event  # its time is of no interest: the task knows what was so when it started
    if pages.ended is not None and pages.noticed_at is None:
        pages.noticed_at = pages.task_started_at


def _read_signal(pages: Pages, event: HistoryEvent) -> None:
    signal = event.workflow_execution_signaled_event_attributes
    if signal.signal_name == RERUN and (pages.scheduled is None or pages.noticed_at is not None):
        pages.reruns.append(Request(payloads=list(signal.input.payloads), settled=pages.scheduled))


def _read_timer(pages: Pages, event: HistoryEvent) -> None:
    del event
    pages.has_expired = True


def _read_close(pages: Pages, event: HistoryEvent) -> None:
    pages.closed_by = event.event_type


# A table and not a `match`: protobuf looks the name of an enum's value up at each use.
_READERS: dict[EventType.ValueType, Callable[[Pages, HistoryEvent], None]] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: _read_start,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: _read_schedule,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: _read_end,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: _read_end,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: _read_end,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: _read_end,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED: _read_task_start,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: _read_task_completion,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: _read_signal,
    EventType.EVENT_TYPE_TIMER_FIRED: _read_timer,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: _read_close,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: _read_close,
}


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


def is_definite(ended: HistoryEvent) -> bool:
    """Return whether the activity itself said that it has failed for good; see `Failed.is_definite`."""
    failed = ended.activity_task_failed_event_attributes
    return failed.failure.application_failure_info.non_retryable


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
