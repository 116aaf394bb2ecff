"""One miss, step by step: when each event of the job's and of the key's history was written."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from benchmarks.bench import DEDUPED, Bench, events_of
from benchmarks.work import Work


@dataclass(frozen=True, kw_only=True)
class Step:
    """An event, and when it was written."""

    whose: str
    """"job" or "key"."""
    event: str
    at: float
    """Seconds after the job was started, median over the misses."""
    spread: tuple[float, float]
    """The quickest and the slowest."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch between two events of a miss."""

    name: str
    whose: str
    """"job", "key", or "server" where a task waits to be picked up."""
    begins: float
    ends: float
    """Both in seconds after the job was started."""


_Mark = tuple[str, str, int]
"""Whose event, its name, and which of that name, counted from 0."""

_PHASES: tuple[tuple[str, str, _Mark, _Mark], ...] = (
    (
        "workflow task waits",
        "server",
        ("job", "WorkflowExecutionStarted", 0),
        ("job", "WorkflowTaskStarted", 0),
    ),
    ("job begins; peek", "job", ("job", "WorkflowTaskStarted", 0), ("job", "WorkflowTaskCompleted", 0)),
    (
        "claim starts the key",
        "job",
        ("job", "ActivityTaskStarted", 0),
        ("key", "WorkflowExecutionStarted", 0),
    ),
    ("key begins", "key", ("key", "WorkflowExecutionStarted", 0), ("key", "WorkflowTaskCompleted", 0)),
    ("activity task waits", "server", ("key", "ActivityTaskScheduled", 0), ("key", "ActivityTaskStarted", 0)),
    ("the activity", "key", ("key", "ActivityTaskStarted", 0), ("key", "ActivityTaskCompleted", 0)),
    ("workflow task waits", "server", ("key", "WorkflowTaskScheduled", 1), ("key", "WorkflowTaskStarted", 1)),
    ("settle", "key", ("key", "WorkflowTaskStarted", 1), ("job", "ActivityTaskCompleted", 0)),
    ("key comes to rest", "key", ("job", "ActivityTaskCompleted", 0), ("key", "WorkflowTaskCompleted", 1)),
    ("workflow task waits", "server", ("job", "WorkflowTaskScheduled", 1), ("job", "WorkflowTaskStarted", 1)),
    ("job ends", "job", ("job", "WorkflowTaskStarted", 1), ("job", "WorkflowExecutionCompleted", 0)),
)


def phases(steps: Sequence[Step]) -> list[Phase]:
    """Return what a miss spends its time on. A phase whose events are not there is left out."""
    at: dict[_Mark, float] = {}
    seen = Counter[tuple[str, str]]()
    for step in steps:
        event = step.event.partition(" ")[0]
        at[step.whose, event, seen[step.whose, event]] = step.at
        seen[step.whose, event] += 1
    return [
        Phase(name=name, whose=whose, begins=at[begins], ends=at[ends])
        for name, whose, begins, ends in _PHASES
        if begins in at and ends in at and at[ends] >= at[begins]
    ]


async def timeline(bench: Bench, *, misses: int) -> list[Step]:
    """Return the steps of a miss on its own, in order of time. Misses that went another way do not count."""
    lines: dict[tuple[tuple[str, str], ...], list[list[float]]] = {}
    for _ in range(misses):
        work = Work(key=f"bench-{uuid4()}")
        handle = await bench.start(DEDUPED, work)
        await handle.result()
        events = [("job", event) for event in await events_of(handle)]
        events += [("key", event) for event in await events_of(bench.key(work.key))]
        began = _time(events[0][1])
        events.sort(key=lambda entry: (_time(entry[1]), entry[0] == "job"))
        names = tuple((whose, name_of(event)) for whose, event in events)
        lines.setdefault(names, []).append([(_time(event) - began).total_seconds() for _, event in events])
    names, times = max(lines.items(), key=lambda entry: len(entry[1]))
    return [
        Step(whose=whose, event=name, at=statistics.median(column), spread=(min(column), max(column)))
        for (whose, name), column in zip(names, zip(*times, strict=True), strict=True)
    ]


def name_of(event: HistoryEvent) -> str:
    """Return what happened, and to whom: "ActivityTaskScheduled dedupe.claim"."""
    words = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").split("_")
    name = "".join(word.capitalize() for word in words)
    match event.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            return f"{name} {event.activity_task_scheduled_event_attributes.activity_type.name}"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            return f"{name} {event.workflow_execution_signaled_event_attributes.signal_name}"
        case _:
            return name


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
