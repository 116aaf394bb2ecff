"""One miss, step by step: when each event of the job's and of the key's history was written."""

import statistics
from datetime import UTC, datetime
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from benchmarks.bench import DEDUPED, Bench, events_of
from benchmarks.phases import Step
from benchmarks.work import Work


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
