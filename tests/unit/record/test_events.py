"""Events: what the history of a key says, for real histories and for those that could be."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from dedupe.model.names import DELEGATED, IN_PLACE, OUTCOME
from dedupe.record.events import Events, failure_of, is_activity_end, scheduled_id, time_of
from tests.replay.corpus import HISTORIES, load

START = datetime(2026, 1, 1, tzinfo=UTC)
RESET = "run-after-a-reset"


def fold(events: list[HistoryEvent]) -> Events:
    """Read a history from its first event to its last."""
    found = Events()
    for event in events:
        found.apply(event)
    return found


def kind(event_type: "EventType.ValueType | None") -> str | None:
    """Return the type of an event, in short."""
    return None if event_type is None else EventType.Name(event_type).removeprefix("EVENT_TYPE_")


@pytest.mark.parametrize(
    ("shape", "workflow_type", "end", "closed"),
    [
        ("run_out.real", IN_PLACE, "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_COMPLETED"),
        # The effect of the call that held it ended before the run could close.
        (
            "cancelled_by_an_operator.real",
            IN_PLACE,
            "WORKFLOW_EXECUTION_SIGNALED",
            "WORKFLOW_EXECUTION_CANCELED",
        ),
        ("succeeded.skipping", DELEGATED, "ACTIVITY_TASK_COMPLETED", "WORKFLOW_EXECUTION_COMPLETED"),
        ("failed_and_skipped.skipping", DELEGATED, "ACTIVITY_TASK_FAILED", "WORKFLOW_EXECUTION_COMPLETED"),
        ("forgotten.skipping", DELEGATED, None, "WORKFLOW_EXECUTION_COMPLETED"),
    ],
)
def test_recorded_histories_say_how_their_key_ended(
    shape: str, workflow_type: str, end: str | None, closed: str
) -> None:
    """Of real histories: the type, how the execution ended, and what closed the run."""
    found = fold(list(load(HISTORIES / f"{shape}.key.json").events))
    assert found.workflow_type == workflow_type
    assert kind(None if found.end is None else found.end.event_type) == end
    assert kind(found.closed_by) == closed
    if found.end is not None and is_activity_end(found.end):
        assert scheduled_id(found.end) in found.scheduled


SIGNALS = st.lists(st.sampled_from([OUTCOME, "of no interest"]), max_size=6)


def history(
    signals: list[str], *, reset: bool, closed_by: "EventType.ValueType | None"
) -> list[HistoryEvent]:
    """Return the events of a run that is executed in place."""
    events: list[HistoryEvent] = []

    def add(event_type: "EventType.ValueType") -> HistoryEvent:
        event = HistoryEvent(event_id=len(events) + 1, event_type=event_type)
        event.event_time.FromDatetime(START + timedelta(seconds=len(events)))
        events.append(event)
        return event

    started = add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    started.workflow_execution_started_event_attributes.workflow_type.name = IN_PLACE
    started.workflow_execution_started_event_attributes.original_execution_run_id = "run"
    if reset:
        add(
            EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        ).workflow_task_failed_event_attributes.new_run_id = RESET
    for signal in signals:
        event = add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
        event.workflow_execution_signaled_event_attributes.signal_name = signal
    if closed_by is not None:
        add(closed_by)
    return events


CLOSED = st.sampled_from(
    [
        None,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    ]
)


@given(SIGNALS, st.booleans(), CLOSED)
def test_the_first_outcome_of_a_run_counts(
    signals: list[str],
    reset: bool,  # noqa: FBT001
    closed_by: "EventType.ValueType | None",
) -> None:
    """Whatever else is signalled, before or after; a run that was reset has its own id."""
    events = history(signals, reset=reset, closed_by=closed_by)
    found = fold(events)
    outcomes = [
        event for event in events if event.workflow_execution_signaled_event_attributes.signal_name == OUTCOME
    ]
    assert found.end == (outcomes[0] if outcomes else None)
    assert found.run_id == (RESET if reset else "run")
    assert found.closed_by == closed_by
    assert found.started_at == START


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("FAILED", "application_failure_info"),
        ("TIMED_OUT", "timeout_failure_info"),
        ("CANCELED", "canceled_failure_info"),
    ],
)
def test_a_failure_is_said_as_the_sdk_says_it(name: str, cause: str) -> None:
    """The end of an activity becomes the failure that its job would have been raised."""
    scheduled = HistoryEvent(event_id=5, event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    attributes = scheduled.activity_task_scheduled_event_attributes
    attributes.activity_id, attributes.activity_type.name = "1:i", "effect"
    ended = HistoryEvent(event_type=EventType.Value(f"EVENT_TYPE_ACTIVITY_TASK_{name}"))
    match name:
        case "FAILED":
            failed = ended.activity_task_failed_event_attributes
            failed.scheduled_event_id, failed.identity = 5, "worker"
            failed.failure.application_failure_info.type = "Refused"
        case "TIMED_OUT":
            timed_out = ended.activity_task_timed_out_event_attributes
            timed_out.scheduled_event_id = 5
            timed_out.failure.timeout_failure_info.SetInParent()
        case _:
            ended.activity_task_canceled_event_attributes.scheduled_event_id = 5
    assert scheduled_id(ended) == 5
    failure = failure_of(ended, scheduled)
    assert failure.cause.WhichOneof("failure_info") == cause
    info = failure.activity_failure_info
    assert (info.activity_id, info.activity_type.name, info.scheduled_event_id) == ("1:i", "effect", 5)


def test_an_event_has_the_time_of_the_server() -> None:
    """In UTC."""
    [first, *_] = history([], reset=False, closed_by=None)
    assert time_of(first) == START
