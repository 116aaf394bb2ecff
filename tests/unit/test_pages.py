"""Pages: what a key's history says, for real histories and for all that could be."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from dedupe.messages import KEY_WORKFLOW
from dedupe.pages import Pages, failure_of, is_cancellation, time_of
from tests.replay.corpus import HISTORIES, load

START = datetime(2026, 1, 1, tzinfo=UTC)


def fold(events: list[HistoryEvent]) -> Pages:
    """Read a history from its first event to its last."""
    pages = Pages()
    for event in events:
        pages.apply(event)
    return pages


def kind(event: HistoryEvent | None) -> str | None:
    """Return the type of an event, in short."""
    if event is None:
        return None
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_ACTIVITY_TASK_")


@pytest.mark.parametrize(
    ("shape", "ended", "generation", "closed"),
    [
        ("succeeded.real", "COMPLETED", 1, False),
        ("executing.real", None, 1, False),
        ("shared.real", "COMPLETED", 1, False),
        ("failed_and_executed_again.real", "COMPLETED", 3, False),
        ("failed_and_skipped.real", "FAILED", 1, False),
        ("timed_out.real", "COMPLETED", 2, False),
        ("forgotten.real", "COMPLETED", 1, True),
        ("succeeded.skipping", "COMPLETED", 1, True),
        ("failed_and_skipped.skipping", "FAILED", 1, True),
    ],
)
def test_recorded_histories_say_how_their_key_ended(
    shape: str, ended: str | None, generation: int, *, closed: bool
) -> None:
    """Of real histories the last execution counts, how it ended, and whether the run is closed."""
    pages = fold(list(load(HISTORIES / f"{shape}.key.json").events))
    assert pages.workflow_type == KEY_WORKFLOW
    assert kind(pages.ended) == ended
    assert pages.scheduled is not None
    activity_id = pages.scheduled.activity_task_scheduled_event_attributes.activity_id
    assert activity_id.startswith(f"{generation}:")
    assert (pages.closed_by is not None) == closed
    assert (pages.noticed_at is None) == (pages.ended is None)


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.real.key.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("gap", [0, 1, 3, 7])
def test_the_ends_of_a_real_history_never_lie(path: Path, gap: int) -> None:
    """Read from both ends with some events missing between, a history says what it says, or less."""
    events = list(load(path).events)
    whole = fold(events)
    for first in range(1, len(events) - gap):
        check_ends(whole, events, first, first + gap)


def check_ends(whole: Pages, events: list[HistoryEvent], first: int, last: int) -> None:
    """Assert that a history read without the events from `first` to `last` says nothing wrong."""
    pages = fold(events[:first])
    if pages.scheduled is None:
        return  # such a history is read as a whole
    pages.apply_last(events[last:])
    assert pages.closed_by == whole.closed_by
    if pages.ended is not None:
        assert pages.ended == whole.ended
        assert pages.scheduled == whole.scheduled
        assert pages.noticed_at in {None, whole.noticed_at}


# What a key's workflow may go through: it executes, ends, is executed again after a failure.
STEPS = st.lists(
    st.sampled_from(["failed", "timed out", "cancelled", "completed", "executing"]), min_size=1, max_size=5
)
NOISE = st.lists(st.integers(0, 4), min_size=6, max_size=6)


def history(steps: list[str], noise: list[int]) -> list[HistoryEvent]:
    """Return the events of such a life, with attaches in between."""
    events: list[HistoryEvent] = []

    def add(event_type: "EventType.ValueType") -> HistoryEvent:
        event = HistoryEvent(event_id=len(events) + 1, event_type=event_type)
        event.event_time.FromDatetime(START + timedelta(seconds=len(events)))
        events.append(event)
        return event

    def task() -> None:
        add(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
        add(EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)
        add(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)

    started = add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    started.workflow_execution_started_event_attributes.workflow_type.name = KEY_WORKFLOW
    for number, step in enumerate(steps):
        task()
        scheduled = add(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
        scheduled.activity_task_scheduled_event_attributes.activity_id = f"{number + 1}:i"
        for _ in range(noise[number]):
            add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
            task()
        match step:
            case "failed":
                failed = add(EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED)
                failed.activity_task_failed_event_attributes.scheduled_event_id = scheduled.event_id
            case "timed out":
                timed_out = add(EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT)
                timed_out.activity_task_timed_out_event_attributes.scheduled_event_id = scheduled.event_id
            case "cancelled":
                cancelled = add(EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED)
                cancelled.activity_task_canceled_event_attributes.scheduled_event_id = scheduled.event_id
                break
            case "completed":
                completed = add(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
                completed.activity_task_completed_event_attributes.scheduled_event_id = scheduled.event_id
                for _ in range(noise[-1]):
                    task()
                break
            case _:
                break
        task()
    return events


def test_a_history_without_its_end_says_no_failure() -> None:
    """Where no last events are read at all, a failure may have been superseded, and says nothing."""
    events = history(["failed", "completed"], [0] * 6)
    check_ends(fold(events), events, 6, len(events))


@given(STEPS, NOISE)
def test_the_last_execution_counts(steps: list[str], noise: list[int]) -> None:
    """The last schedule event and its own end count, and a failure from the task that took notice of it."""
    events = history(steps, noise)
    pages = fold(events)
    done = steps[: next((n for n, s in enumerate(steps) if s in FINAL), len(steps)) + 1]
    assert pages.scheduled is not None
    assert pages.scheduled.activity_task_scheduled_event_attributes.activity_id == f"{len(done)}:i"
    assert kind(pages.ended) == ENDS[done[-1]]
    if pages.ended is not None and pages.noticed_at is not None:
        assert pages.noticed_at > time_of(pages.ended)
    assert (pages.ended is not None and is_cancellation(pages.ended)) == (done[-1] == "cancelled")


FINAL = {"cancelled", "completed", "executing"}
ENDS = {
    "failed": "FAILED",
    "timed out": "TIMED_OUT",
    "cancelled": "CANCELED",
    "completed": "COMPLETED",
    "executing": None,
}


@given(STEPS, NOISE, st.data())
def test_the_ends_of_a_history_never_lie(steps: list[str], noise: list[int], data: st.DataObject) -> None:
    """Whatever is missing in the middle, the two ends of a history say what the whole says, or less."""
    events = history(steps, noise)
    first = data.draw(st.integers(1, len(events)))
    last = data.draw(st.integers(first, len(events)))
    check_ends(fold(events), events, first, last)


@pytest.mark.parametrize("shape", ["failed_and_skipped.real", "failed_and_skipped.skipping"])
def test_a_failure_names_its_activity(shape: str) -> None:
    """The failure made of a history is that of an activity, with its type, id and cause."""
    pages = fold(list(load(HISTORIES / f"{shape}.key.json").events))
    assert pages.ended is not None
    assert pages.scheduled is not None
    failure = failure_of(pages.ended, pages.scheduled)
    assert failure.activity_failure_info.activity_type.name == "effect"
    assert failure.activity_failure_info.activity_id.startswith("1:")
    assert failure.cause.message == "no"
    assert failure.cause.application_failure_info.type == "Refused"


def test_the_fold_reads_every_key_of_the_corpus() -> None:
    """No recorded history of a key, of any shape, breaks the fold."""
    for path in HISTORIES.glob("*.key.json"):
        assert json.loads(path.read_text())["events"]
        assert fold(list(load(path).events)).input
